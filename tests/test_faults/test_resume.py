"""Runs that are stopped, killed and resumed; see test_training.py."""

import os
import random
import signal
import time

import pytest
import torch

from mmfgl.testing import tiny_coco
from mmfgl.utils.atomic_files import SUFFIX
from tools.benchmarks.faults_runs import detection, pretraining

pytestmark = pytest.mark.faults


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


@pytest.mark.parametrize('kind', [pretraining, detection])
def test_resume(bench, data, kind):
    """A run is stopped and resumed: all weights bit-equal."""
    last = bench.trained(kind(data), 'straight')
    more = ('--resume', last.with_name('iter_2.pth'))
    resumed = load(bench.trained(kind(data), 'resumed', 4, *more))
    straight, resumed = load(last)['state_dict'], resumed['state_dict']
    equal = [k for k, v in straight.items() if torch.equal(v, resumed[k])]
    bench.seen(f'{len(equal)} of {len(resumed)} tensors equal')
    assert len(equal) == len(resumed)


def wait_for(is_there, limit, pid=None):
    """Wait until something is there; a child must live as long."""
    start = time.monotonic()
    while not is_there():
        assert pid is None or not os.waitpid(pid, os.WNOHANG)[0]
        if time.monotonic() - start > limit:
            return False
        time.sleep(0 if pid is None else 0.02)
    return True


KINDS = (
    ('pretraining', 'OptimWrapper'),
    ('detection', 'OptimWrapper'),
    ('pretraining', 'mmfgl.CPUAmpOptimWrapper'),  # bf16
    ('detection', 'mmfgl.CPUAmpOptimWrapper'),
)
LENGTH = 24


def saves_always(kind, data):
    """Config of a run that saves at each of its iterations."""
    name, wrapper = kind
    make = dict(pretraining=pretraining, detection=detection)[name]
    cfg = make(data, iters=LENGTH, interval=1)
    cfg.optim_wrapper.type = wrapper
    cfg.optim_wrapper.optimizer.lr = 1e-4  # no alarm of a collapse
    return cfg


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    """Data, and last weights of a run that nothing disturbs, by kind."""
    data = tiny_coco(tmp_path_factory.mktemp('kills') / 'data')
    weights = {}

    def get(kind, bench):
        if kind not in weights:
            cfg = saves_always(kind, data)
            path = bench.trained(cfg, 'undisturbed', LENGTH)
            weights[kind] = load(path)['state_dict']
        return data, weights[kind]

    return get


@pytest.mark.parametrize('index', range(20))
def test_kill(bench, undisturbed, index, record_property):
    """SIGKILL while a run saves all the time: resumed, it ends bit-equal."""

    def leftovers():
        return [n for n in os.listdir(work_dir) if n.endswith(SUFFIX)]

    kind = KINDS[index // 2 % len(KINDS)]
    data, expected = undisturbed(kind, bench)
    cfg = saves_always(kind, data)
    pid, log = bench.start(cfg, 'run')
    work_dir = log.parent
    assert wait_for((work_dir / 'last_checkpoint').is_file, 120, pid)
    time.sleep(random.Random(index).uniform(0, 0.5))
    if index % 2:  # else most would fall between two saves
        wait_for(leftovers, 30)
    os.kill(pid, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    moment = 'while saving' if leftovers() else 'between saves'
    record_property('kill', moment)
    code, output = bench.run(cfg, 'run', '--resume')
    assert code == 0 and not leftovers(), output[-2000:]
    weights = load(work_dir / f'iter_{LENGTH}.pth')['state_dict']
    equal = [k for k, v in expected.items() if torch.equal(v, weights[k])]
    bench.seen(
        f'{" ".join(kind)} killed {moment}, '
        f'{len(equal)} of {len(expected)} tensors equal at the end'
    )
    assert len(equal) == len(expected)


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1', 'SIGINT'])
def test_signal(bench, data, name):
    """Asked to stop: a checkpoint after the step, status 75, resumable."""
    cfg = pretraining(data, iters=10**5, interval=10**6)
    code, output = bench.stop(cfg, 'run', getattr(signal, name))
    (path,) = (bench.folder / 'run').glob('*.pth')
    bench.seen(f'status {code}, {path.name}')
    assert code == 75, output[-2000:]
    done = load(path)['meta']['iter']
    cfg = pretraining(data, iters=done + 1)
    assert bench.trained(cfg, 'run', done + 1, '--resume').exists()


@pytest.mark.parametrize('pointer', [True, False], ids=['cut', 'no_pointer'])
def test_resume_falls_back(bench, data, checkpoint, pointer):
    """Newest checkpoint cut off, or no pointer: the next one, a warning."""
    if pointer:
        checkpoint.write_bytes(checkpoint.read_bytes()[:100000])
    else:
        (checkpoint.parent / 'last_checkpoint').unlink()
    name = 'iter_2.pth' if pointer else 'iter_4.pth'
    result = bench.run(pretraining(data, iters=5), 'first', '--resume')
    bench.ends(result, rf'WARNING.*going on from \S*{name}')


def test_flipped_byte(bench, data, checkpoint):
    """A byte of the checkpoint has flipped: an error says what to do."""
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 3] ^= 255
    checkpoint.write_bytes(content)
    result = bench.run(pretraining(data, iters=5), 'first', '--resume')
    bench.stops(result, 'is damaged', 'iter_4.pth', 'remove it')


@pytest.mark.parametrize('part', ['neck', 'prefix', 'optimizer'])
def test_resume_of_a_part(bench, data, checkpoint, part):
    """--resume from what does not fit: an error names what is wrong."""
    content = load(checkpoint)
    state = content['state_dict']
    words = {'neck': 'neck', 'prefix': "'x.'", 'optimizer': 'no optimizer'}
    if part == 'neck':
        content['state_dict'] = {
            k: v for k, v in state.items() if 'neck' not in k
        }
    elif part == 'prefix':
        content['state_dict'] = {f'x.{k}': v for k, v in state.items()}
    else:
        del content['optimizer']
    torch.save(content, checkpoint)
    result = bench.run(pretraining(data), 'second', '--resume', checkpoint)
    bench.stops(result, words[part], str(checkpoint))


def test_resume_with_other_data(bench, data, checkpoint):
    """--resume with a batch size and images of its own: a warning."""
    image = sorted((data / 'unlabelled').iterdir())[0]
    image.with_name('zzz.jpg').write_bytes(image.read_bytes())
    cfg = pretraining(data, iters=5)
    cfg.train_dataloader.batch_size = 3
    result = bench.run(cfg, 'second', '--resume', checkpoint)
    bench.ends(result, r'WARNING.*batch size of a process was 2, is 3.*images')


def test_resume_with_a_longer_schedule(bench, data, checkpoint):
    """--resume with another schedule: the config's counts, and it is said."""
    cfg = pretraining(data, iters=8)
    cfg.param_scheduler[0].end = 8
    result = bench.run(cfg, 'second', '--resume', checkpoint)
    bench.ends(result, r'WARNING.*config wins: end of scheduler 0 was 4, is 8')


def test_moved_work_dir(bench, data, checkpoint):
    """The work dir was moved: --resume goes on there."""
    checkpoint.parent.rename(bench.folder / 'moved')
    result = bench.run(pretraining(data, iters=5), 'moved', '--resume')
    bench.ends(result, r'resumed from .*: epoch 0, iteration 4')


def test_new_run_in_an_old_work_dir(bench, data, checkpoint):
    """A work dir with checkpoints, no --resume: they are moved aside."""
    result = bench.run(pretraining(data, iters=2), 'first')
    bench.ends(result, r'moved 2 checkpoints of an earlier run')
    assert (checkpoint.parent / 'earlier_run_1/iter_4.pth').exists()


def test_work_dir_in_use(bench, data):
    """A second run in a work dir in use: refused, the first goes on."""
    cfg = pretraining(data, iters=10**4, interval=1)
    pid, log = bench.start(cfg, 'run')
    try:
        assert wait_for((log.parent / 'last_checkpoint').is_file, 120, pid)
        result = bench.run(cfg, 'run', '--resume')
        assert not os.waitpid(pid, os.WNOHANG)[0]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    bench.stops(result, 'is in use by process', '--work-dir')
