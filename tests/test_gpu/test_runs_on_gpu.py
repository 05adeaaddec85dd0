"""Runs: resume, SyncBN and DDP; as a script one rank of the latter."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmfgl.registry import MODELS
from mmfgl.testing import region_batch, tiny_retod_cfg
from tools.benchmarks import faults_runs

pytestmark = pytest.mark.gpu
COUNTER = itertools.count()
ALL_TASKS = ('objectness', 'distill', 'mask', 'diversity')


@pytest.mark.parametrize('kind', ['pretraining', 'detection'])
def test_resume(kind, precision, data, tmp_path):
    """A run in two halves ends where one in a whole does."""

    def run(folder, iters=4, **changes):
        cfg = getattr(faults_runs, kind)(data, iters=4)
        cfg.optim_wrapper = precision.wrapper(cfg.optim_wrapper)
        cfg.work_dir = str(tmp_path / folder)
        cfg.experiment_name = f'gpu_{next(COUNTER)}'
        for key, value in changes.items():
            cfg[key] = value
        runner = Runner.from_cfg(cfg)
        if iters < 4:
            runner.register_hook(_StopAfter(iters))
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            try:
                model = runner.train()
            except KeyboardInterrupt:
                return None
        return {k: v.cpu() for k, v in model.state_dict().items()}

    whole = run('whole')
    assert run('halves', iters=2) is None
    halves = run('halves', resume=True)
    assert whole.keys() == halves.keys()
    for key, value in whole.items():
        assert value.isfinite().all(), key
        # Atomic additions of a GPU come in any order, and Adam makes whole
        # steps (4 of at most 1e-3 here) of a gradient that is rounding alone,
        # as that of a bias before a BatchNorm.
        torch.testing.assert_close(
            halves[key], value, rtol=1e-2, atol=8e-3, msg=key
        )


class _StopAfter(faults_runs.Hook):
    priority = 'LOWEST'  # after the checkpoint

    def __init__(self, iters):
        self.iters = iters

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iters:
            raise KeyboardInterrupt


def run_rank(device, rank, world, folder):
    """Train a ReToD with all tasks on one of the ranks."""
    backend = 'nccl' if device == 'cuda' else 'gloo'
    if device == 'cuda':
        torch.cuda.set_device(rank)
        device = f'cuda:{rank}'
    dist.init_process_group(
        backend, f'file://{folder}/store', rank=rank, world_size=world
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(tiny_retod_cfg(*ALL_TASKS))
    model.teacher_is_driven = True
    if backend == 'nccl':  # SyncBatchNorm has no kernel for CPUs
        model = convert_sync_batchnorm(model, 'torch')
        layers = [m for m in model.modules() if 'BatchNorm' in str(type(m))]
        assert all(isinstance(m, nn.SyncBatchNorm) for m in layers)
    wrapped = MMDistributedDataParallel(
        model.to(device),
        device_ids=None if backend == 'gloo' else [rank],
        broadcast_buffers=False,
    )
    sgd = dict(type='SGD', lr=0.01)
    optimizer = build_optim_wrapper(wrapped, dict(optimizer=sgd))
    for step in range(3):
        batch = region_batch(num_objects=3, seed=10 * step + rank)
        log = wrapped.train_step(batch, optimizer)
        assert all(value.isfinite() for value in log.values()), log
        model.update_teacher(0.9)
    state = {
        key: value.cpu()
        for key, value in model.state_dict().items()
        if backend == 'nccl' or 'running_' not in key
    }
    torch.save(state, f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


def test_ddp_and_sync_bn(device, tmp_path):
    """Ranks see different data and end with equal weights."""
    world = torch.cuda.device_count() if device.type == 'cuda' else 2
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                __file__,
                *map(str, (device.type, rank, world, tmp_path)),
            ],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)},
        )
        for rank in range(world)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0] * world
    states = [torch.load(tmp_path / f'rank{r}.pt') for r in range(world)]
    for key, value in states[0].items():
        assert value.isfinite().all(), key
        for other in states[1:]:
            torch.testing.assert_close(other[key], value, msg=key)


if __name__ == '__main__':
    run_rank(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
