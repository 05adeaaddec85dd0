"""Faults of runs on two ranks; see ``test_training.py``."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tools.benchmarks.faults_runs import detection, pretraining

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
ITERS = 8
LIMIT = 60  # seconds that others may outlive a dead rank


def weights(path):
    return torch.load(path, weights_only=False)['state_dict']


def train(bench, cfg, name, *args):
    """Train on two ranks; return the last checkpoint's state dict."""
    path, work_dir = bench.folder / f'{name}.py', bench.folder / name
    cfg.dump(str(path))
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    common = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE=2)
    args = (path, '--work-dir', work_dir, '--launcher', 'pytorch', *args)

    def start(rank):
        own = dict(common, RANK=rank, LOCAL_RANK=rank)
        values = {key: str(value) for key, value in own.items()}
        return bench.start(
            None, name, *args, before=lambda: os.environ.update(values)
        )

    for pid, log in [start(rank) for rank in range(2)]:
        _, status = os.waitpid(pid, 0)
        assert status == 0, log.read_text()[-2000:]
    return weights(work_dir / f'iter_{cfg.train_cfg.max_iters}.pth')


@pytest.mark.parametrize('kind', [pretraining, detection])
def test_resume_on_two_ranks(bench, data, kind):
    """A run on two ranks is resumed: all weights and buffers bit-equal."""
    straight = train(bench, kind(data), 'straight')
    middle = bench.folder / 'straight' / 'iter_2.pth'
    resumed = train(bench, kind(data), 'resumed', '--resume', middle)
    equal = [k for k, v in straight.items() if torch.equal(v, resumed[k])]
    bench.seen(f'{len(equal)} of {len(resumed)} tensors equal')
    assert len(equal) == len(resumed) > 0


@pytest.fixture
def launch(bench):
    """Start dist_train.sh on two ranks; give its process and its output."""
    started = []

    def start(cfg, name, *args, **env):
        path, work_dir = bench.folder / f'{name}.py', bench.folder / name
        cfg.dump(str(path))
        command = ['bash', ROOT / 'tools/dist_train.sh', path, 2]
        command += ['--work-dir', work_dir, *args]
        log = bench.folder / f'{name}.txt'
        own = dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1', **env)
        own |= dict(PYTHON=sys.executable, PYTHONPATH=str(ROOT))
        with log.open('w') as file:
            process = subprocess.Popen(
                list(map(str, command)),
                env=os.environ | own,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        started.append(process)
        return process, log

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()  # passed on
            process.wait(timeout=120)


def wait_for(process, log, words, limit=180):
    """Wait until the output says something."""
    end = time.monotonic() + limit
    while words not in log.read_text():
        assert process.poll() is None and time.monotonic() < end, (
            log.read_text()[-3000:]
        )
        time.sleep(0.1)


def dying(data, at, iters=ITERS):
    """A pretraining whose second rank dies; it saves at its end alone."""
    death = dict(type='mmengine.FaultDeath', number=at)
    return pretraining(data, iters=iters, interval=10**6, hooks=(death,))


def test_dead_rank(bench, data, launch):
    """A rank dies (SIGKILL): in a minute all have ended, rank 0 has saved."""
    process, log = launch(dying(data, at=3), 'run')
    wait_for(process, log, 'FaultDeath')
    start = time.monotonic()
    code = process.wait(timeout=2 * LIMIT)
    seconds = time.monotonic() - start
    names = [path.name for path in (bench.folder / 'run').glob('*.pth')]
    bench.seen(f'status {code} after {seconds:.0f} s, {names}')
    assert code not in (0, 75) and seconds < LIMIT
    assert names == ['iter_3.pth'], log.read_text()[-3000:]


def test_dead_rank_and_restart(bench, data, launch):
    """A rank dies, MAX_RESTARTS=1: resumes by itself and ends bit-equal."""
    straight = train(bench, dying(data, at=-1), 'straight')
    process, log = launch(dying(data, at=3), 'run', MAX_RESTARTS='1')
    code = process.wait(timeout=300)
    output = log.read_text()
    assert code == 0, output[-3000:]
    found = re.search(r'resumed from \S*(iter_3.pth)', output)
    resumed = weights(bench.folder / f'run/iter_{ITERS}.pth')
    equal = [k for k, v in straight.items() if torch.equal(v, resumed[k])]
    bench.seen(
        f'resumed from {found and found[1]}, {len(equal)} of '
        f'{len(resumed)} tensors equal at the end'
    )
    assert found and len(equal) == len(resumed) > 0


def test_signal_to_two_ranks(bench, data, launch):
    """SIGTERM to dist_train.sh: status 75, a checkpoint, which resumes."""
    cfg = pretraining(data, iters=10**5, interval=10**6)
    process, log = launch(cfg, 'run')
    wait_for(process, log, 'Iter(train)')
    process.send_signal(signal.SIGTERM)
    code = process.wait(timeout=120)
    (path,) = (bench.folder / 'run').glob('*.pth')
    done = int(path.stem.partition('_')[2])
    bench.seen(f'status {code}, {path.name}')
    assert code == 75, log.read_text()[-3000:]
    process, log = launch(pretraining(data, iters=done + 2), 'run', '--resume')
    assert process.wait(timeout=180) == 0, log.read_text()[-3000:]
    assert f'iteration {done}' in log.read_text()
