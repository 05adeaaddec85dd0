"""`mmfgl run` and `mmfgl predict`, real and tiny, stopped in between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmfgl.testing import tiny_coco

pytestmark = pytest.mark.faults
ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(tmp_path):
    """Starts `mmfgl ARGS` in an empty folder; gives process and output."""
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'CUDA_VISIBLE_DEVICES': ''}
    (tmp_path / 'empty').mkdir()

    def start(name, *args):
        log = tmp_path / f'{name}.txt'
        with log.open('w') as file:
            process = subprocess.Popen(
                [sys.executable, '-m', 'mmfgl', *map(str, args)],
                cwd=tmp_path / 'empty',
                env=env,
                stdout=file,
                stderr=subprocess.STDOUT,
                # a shell has it ignored by what runs in the background
                preexec_fn=lambda: signal.signal(
                    signal.SIGINT, signal.SIG_DFL
                ),
            )
        return process, log

    return start


def test_a_run_that_is_stopped_goes_on(command, tmp_path, record_property):
    """`mmfgl run` is interrupted, its folder moved: it resumes and ends."""
    record_property('fault', '`mmfgl run` is interrupted, its folder moved')
    record_property('expected', 'the same command resumes and ends it')
    data = tiny_coco(tmp_path / 'data', 12, 3, 12)
    out = tmp_path / 'run'
    args = ('run', data, '--out', out, '--iters=4', '--no-flip')
    process, log = command('first', *args)
    while 'pretrain: expect' not in log.read_text() or (
        'Iter(train)' not in log.read_text()
    ):
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert 'goes on' in log.read_text()

    moved = tmp_path / 'elsewhere'
    out = out.rename(moved)
    args = ('run', data, '--out', out, '--iters=4', '--no-flip')
    process, log = command('second', *args)
    assert process.wait() == 0, log.read_text()
    shown = log.read_text()
    assert shown.count('already done') == 3 and '--resume' in shown
    results = json.loads((out / 'results.json').read_text())
    assert set(results['arms']) == {'imagenet', 'retod'}
    for tests in results['arms'].values():
        assert set(tests) == {'plain', 'tta'}
    for name in ('report.html', 'report.md', 'configs/retod.py'):
        assert (out / name).is_file()

    args = ('predict', out, data / 'val', '--out', tmp_path / 'found')
    process, log = command('predict', *args, '--score-thr=0')
    assert process.wait() == 0, log.read_text()
    found = json.loads((tmp_path / 'found/predictions.json').read_text())
    assert len(found['images']) == 3 and found['annotations']
    assert not list((tmp_path / 'empty').iterdir())
    record_property('seen', 'resumed in the pretraining, and ended')
