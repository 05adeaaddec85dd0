"""Faults of runs on two ranks; see ``test_training.py``."""

import os
import socket

import pytest
import torch

from tools.benchmarks.faults_runs import detection, pretraining

pytestmark = pytest.mark.faults


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
    checkpoint = torch.load(work_dir / 'iter_4.pth', weights_only=False)
    return checkpoint['state_dict']


@pytest.mark.parametrize('kind', [pretraining, detection])
def test_resume_on_two_ranks(bench, data, kind):
    """A run on two ranks is resumed: all weights and buffers bit-equal."""
    straight = train(bench, kind(data), 'straight')
    middle = bench.folder / 'straight' / 'iter_2.pth'
    resumed = train(bench, kind(data), 'resumed', '--resume', middle)
    equal = [k for k, v in straight.items() if torch.equal(v, resumed[k])]
    bench.seen(f'{len(equal)} of {len(resumed)} tensors equal')
    assert len(equal) == len(resumed) > 0
