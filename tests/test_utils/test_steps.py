import json
import multiprocessing
import shutil
import sys
import time
from pathlib import Path

import pytest

from mmfgl.utils.steps import Step, StepRunner, clock, progress, progress_line
from mmfgl.utils.work_dir_lock import WorkDirInUseError

SCRIPT = """
import pathlib, sys
folder, text = pathlib.Path(sys.argv[1]), sys.argv[2]
folder.mkdir(exist_ok=True)
with open(folder / 'runs', 'a') as file:
    file.write(' '.join(sys.argv[2:]) + chr(10))
print('Iter(train) [ 2/10]  lr: 1e-3  eta: 0:01:00  loss: 1.5  loss_a: 9.0')
if text == 'fail':
    sys.exit('no such luck')
"""


@pytest.fixture
def make_step(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)

    def make(name, text, **kwargs):
        work_dir = tmp_path / f'work_{name}'
        command = [str(script), str(work_dir), text]
        return Step(name, command, [work_dir], 1, work_dir=work_dir, **kwargs)

    return make


def runs(step: Step) -> list[str]:
    return (step.work_dir / 'runs').read_text().splitlines()


def test_done_steps_are_skipped(make_step, tmp_path, capsys):
    runner = StepRunner(tmp_path / 'out', interval=0)
    first, second = make_step('a', 'x'), make_step('b', 'y')
    seconds = runner.run([first, second])
    shown = capsys.readouterr().out
    assert 'Iter(train) [ 2/10]  eta 0:01:00 loss 1.5\n' in shown
    assert runner.run([first, second]) == seconds
    assert capsys.readouterr().out.count('already done') == 2
    assert runs(first) == ['x']
    assert 'loss_a' in (tmp_path / 'out/steps/a.log').read_text()


def test_one_job_a_folder(make_step, tmp_path):
    other = make_step('a', 'other')

    def steps():
        yield make_step('a', 'x')
        with pytest.raises(WorkDirInUseError, match='choose another --out'):
            StepRunner(tmp_path / 'out').run([other])
        yield make_step('b', 'y')

    StepRunner(tmp_path / 'out').run(steps(), total=2)
    assert runs(other) == ['x']  # of the first, untouched
    StepRunner(tmp_path / 'out').run([other])
    assert runs(other) == ['other']


def test_a_change_redoes_the_steps_that_need_it(make_step, tmp_path, capsys):
    config = tmp_path / 'config.py'
    config.write_text('lr = 1')
    runner = StepRunner(tmp_path / 'out')

    def skipped(text):
        first = make_step('a', text, config=str(config))
        other = make_step('b', 'y', needs=[first])
        capsys.readouterr()
        runner.run([first, other, make_step('c', 'z')])
        lines = capsys.readouterr().out.splitlines()
        return [x.split()[1][0] for x in lines if 'already done' in x]

    assert skipped('x') == []
    assert skipped('x') == ['a', 'b', 'c']
    assert skipped('changed argument') == ['c']
    config.write_text('lr = 2')
    assert skipped('changed argument') == ['c']
    shutil.rmtree(tmp_path / 'work_b')
    assert skipped('changed argument') == ['a', 'c']


def test_failure_shows_the_output_and_resumes(make_step, tmp_path):
    runner = StepRunner(tmp_path / 'out')
    step = make_step('a', 'fail', resumable=True)
    with pytest.raises(RuntimeError, match='no such luck'):
        runner.run([step])
    with pytest.raises(RuntimeError):
        runner.run([step])
    assert runs(step) == ['fail', 'fail --resume']
    # Other settings: the unfinished work is not resumed but started anew.
    other = make_step('a', 'x', resumable=True)
    runner.run([other])
    assert runs(other) == ['x']
    not_resumable = make_step('b', 'fail')
    for _ in range(2):
        with pytest.raises(RuntimeError):
            runner.run([not_resumable])
    assert runs(not_resumable) == ['fail']


def test_latest_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    step = Step('a', ['x.py', 'lr=1/run/LATEST', 'lr=1/run'], [], 1)
    run = Path('lr=1/run')
    run.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match='no checkpoint in lr=1/run'):
        step.resolved_command()
    (run / 'epoch_2.pth').touch()  # of a folder that was moved
    (run / 'last_checkpoint').write_text('/old/place/run/epoch_2.pth')
    assert step.resolved_command() == [
        *('x.py', 'lr=1/run/epoch_2.pth', 'lr=1/run')
    ]


def test_progress_line():
    line = '01/01 - INFO - Epoch(train) [1][ 50/100]  lr: 1e-3  loss: 0.5'
    assert progress_line(line) == 'Epoch(train) [1][ 50/100]  loss 0.5'
    assert progress_line(line, due=False) == ''
    line = 'Epoch(val) [2][5/5]    coco/bbox_mAP: 0.1  coco/bbox_mAP_50: 0.2'
    expected = 'Epoch(val) [2][5/5]  coco/bbox_mAP 0.1 coco/bbox_mAP_50 0.2'
    assert progress_line(line, due=False) == expected
    line = '100.0 % of the declared modules loaded (9 of 9 tensors)'
    assert progress_line(line, due=False) == line
    assert progress_line('Loads checkpoint by local backend') == ''


def test_time_left_of_the_whole_job(make_step, tmp_path, capsys):
    script = tmp_path / 'script.py'
    line = 'Iter(train) [ 5/10]  eta: 0:00:10  time: 3.0  loss: 1.5'
    script.write_text(f'{SCRIPT}\nprint({line!r})\n')
    asked = []

    def left(*args):
        asked.append(args)
        return 5000.0

    step = make_step('a', 'x', iteration=2.0)
    StepRunner(tmp_path / 'out', interval=0).run([step], left=left)
    # at the start; a line without a time tells nothing
    assert asked == [('a', 1.0, 0.0), ('a', 1.5, 0.5)]
    shown = capsys.readouterr().out
    assert '[1/1] a: expect about 0:01; all: 1:23:20 left\n' in shown
    assert 'eta 0:00:10 loss 1.5; all: 1:23:20 left\n' in shown


def test_progress():
    bar = '[>>>>   ] 32/640, 12.5 task/s, elapsed: 3s, ETA:    49s'
    assert progress(bar) == (0.05, 0.08)
    assert progress_line(bar) == '32/640 images'
    assert progress_line(bar, due=False) == ''
    assert progress('[  ] 0/640, 0.0 task/s, elapsed: 0s, ETA:') == (0, 0)
    values = 'eta: 0:00:03  time: 0.5  data_time: 0.1'
    assert progress(f'Iter(test) [20/80]    {values}') == (0.25, 0.5)
    assert progress(f'Iter(val) [20/80]    {values}') is None
    assert progress('Iter(train) [20/80]  data_time: 0.1') is None
    assert (clock(59.9), clock(3599), clock(3600)) == (
        *('0:59', '59:59', '1:00:00'),
    )


ENDLESS = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
def end(*args):
    (folder / 'ended').touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
time.sleep(0.2)
print('Iter(train) [ 2/10]  loss: 1.5')
time.sleep(30)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='a signal of Linux')
def test_a_kill_ends_the_command_too_and_keeps_its_time(tmp_path):
    script, work_dir = tmp_path / 'script.py', tmp_path / 'work'
    script.write_text(ENDLESS)
    step = Step('a', [str(script), str(work_dir)], [work_dir], 1)
    runner = StepRunner(tmp_path / 'out', interval=0)
    context = multiprocessing.get_context('fork')
    process = context.Process(target=runner.run, args=([step],))
    process.start()
    log, state = (tmp_path / f'out/steps/a.{end}' for end in ('log', 'json'))

    def wait_for(condition):
        until = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.02)

    def seconds():
        return json.loads(state.read_text())['seconds']

    wait_for(lambda: state.is_file() and seconds() > 0.1)
    process.kill()
    process.join()
    wait_for((work_dir / 'ended').is_file)
    assert 'Iter(train)' in log.read_text()
    assert not json.loads(state.read_text())['done']


SAVES = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
def end(*args):
    print('saves')
    time.sleep(0.5)
    print('saved')
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
print('Iter(train) [ 2/10]  loss: 1.5')
time.sleep(30)
"""


def test_what_a_command_says_as_it_is_stopped_is_kept(tmp_path, monkeypatch):
    script, work_dir = tmp_path / 'script.py', tmp_path / 'work'
    script.write_text(SAVES)
    step = Step('a', [str(script), str(work_dir)], [work_dir], 1)

    def interrupt(line, due):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmfgl.utils.steps.progress_line', interrupt)
    with pytest.raises(KeyboardInterrupt):
        StepRunner(tmp_path / 'out', interval=0).run([step])
    assert (tmp_path / 'out/steps/a.log').read_text().endswith('saved\n')


def test_trust_decides_no_result(make_step):
    step, other = make_step('a', 'x'), make_step('a', 'x')
    other.command.append('--trust-checkpoint')
    assert step.digest() == other.digest()
    other.command.append('--amp')
    assert step.digest() != other.digest()
