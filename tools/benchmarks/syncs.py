#!/usr/bin/env python
"""Count how often a step makes the host wait for a GPU; needs none.

A host that waits cannot queue work, and the GPU idles until it does. Steps of
tiny models run on a pretended GPU (:mod:`mmfgl.testing.pretend_gpu`) with real
values on the CPU. Counted are *waits* (a value, a boolean index, ``nonzero``
... is read) and *uploads* (a blocking copy of values to the GPU), apart for
mmfgl's own lines and for its parents'. The second step counts: the first
reads what is remembered afterwards.

    python tools/benchmarks/syncs.py --out DIR

writes DIR/results.json (counts by line of code) and DIR/results.md. With
``--device cuda`` the steps run on a real GPU, and PyTorch itself tells each
time that it waits, for uploads too: all are counted as waits.
"""

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import mmdet.models  # noqa: F401
import mmpretrain.models  # noqa: F401
import torch
from lib.output import write_results
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmfgl.engine.hooks import NonFiniteGuardHook
from mmfgl.registry import MODELS
from mmfgl.reports import markdown_table
from mmfgl.testing import (
    detection_batch,
    region_batch,
    tiny_fgl_cfg,
    tiny_retod_cfg,
)
from mmfgl.testing.pretend_gpu import PretendGPU, place
from mmfgl.utils.user_errors import add_debug_argument, user_errors

OBJECTNESS = ('objectness',)
ALL_TASKS = ('objectness', 'distill', 'mask', 'diversity')
Case = tuple[nn.Module, Callable[[], None]]


def guarded(model: nn.Module) -> Callable[[dict], None]:
    """A function that takes a training step, guarded as in every config."""
    sgd = dict(type='SGD', lr=0.01)
    wrapper = build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=sgd)
    )
    hub = MessageHub.get_instance('syncs')
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        hooks=[],
        message_hub=hub,
        iter=0,
    )
    guard = NonFiniteGuardHook()
    guard.before_train(runner)

    def step(batch: dict) -> None:
        model.train()
        guard.before_train_iter(runner, 0, batch)
        model.train_step(batch, wrapper)

    return step


def pretraining(tasks: tuple[str, ...], images: int) -> Case:
    """A step of a ReToD, and of its teacher if it has one."""
    speed = dict(costs=dict.fromkeys(ALL_TASKS[:3], 1.0), warmup=0)
    balancer = dict(type='mmfgl.TaskAdaptiveLoss', speed=speed)
    changes = dict(balancer=balancer) if len(tasks) > 1 else {}
    model = MODELS.build(tiny_retod_cfg(*tasks, **changes))
    model.teacher_is_driven = True
    train = guarded(model)
    batch = region_batch(num_images=images, num_objects=4)

    def step() -> None:
        train(batch)
        if model.teacher is not None:
            model.update_teacher(0.99)

    return model, step


def detection(mode: str, images: int) -> Case:
    """A step of an FGL Faster R-CNN, or a batch at test time."""
    cfg = tiny_fgl_cfg(num_targets=8)
    cfg.data_preprocessor.non_blocking = True  # as in the configs
    model = MODELS.build(cfg)
    train = guarded(model)

    def step() -> None:
        batch = detection_batch([(64, 96)] * images)
        if mode == 'train':
            train(batch)
        else:
            model.eval()
            with torch.no_grad():
                model.test_step(batch)

    return model, step


CASES: dict[str, Callable[[], Case]] = {
    'ReToD, objectness, 4 view-images': lambda: pretraining(OBJECTNESS, 2),
    'ReToD, objectness, 8 view-images': lambda: pretraining(OBJECTNESS, 4),
    'ReToD, all tasks, 4 view-images': lambda: pretraining(ALL_TASKS, 2),
    'ReToD, all tasks, 8 view-images': lambda: pretraining(ALL_TASKS, 4),
    'FGL training, 2 images': lambda: detection('train', 2),
    'FGL training, 4 images': lambda: detection('train', 4),
    'FGL prediction, 1 image': lambda: detection('test', 1),
    'FGL prediction, 2 images': lambda: detection('test', 2),
}


class RealGPU:
    """Counts what PyTorch's debug mode reports of a GPU."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()  # are waits, here

    def clear(self) -> None:
        """Count from zero."""
        self.waits.clear()


@contextmanager
def real_gpu() -> Iterator[RealGPU]:
    """A counter of the waits for a real GPU, while it is open."""
    gpu = RealGPU()

    def show(message: Warning | str, *others, **options) -> None:
        if 'synchronizing CUDA operation' in str(message):
            gpu.waits[place()] += 1

    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = show
        torch.cuda.set_sync_debug_mode('warn')
        try:
            yield gpu
        finally:
            torch.cuda.set_sync_debug_mode('default')


@contextmanager
def pretended_gpu() -> Iterator[PretendGPU]:
    """A counter of what would be waits for a GPU, while it is open."""
    with warnings.catch_warnings(), PretendGPU() as gpu:
        warnings.simplefilter('ignore')  # autocast sees no GPU
        yield gpu


GPUS = dict(pretended=pretended_gpu, cuda=real_gpu)


def count(
    make: Callable[[], Case], device: str = 'pretended'
) -> dict[str, Counter[str]]:
    """Waits and uploads of the second step of a case, by line of code."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model, step = make()
    with GPUS[device]() as gpu:
        model.to('cuda')
        step()
        gpu.clear()
        step()
    return dict(waits=gpu.waits, uploads=gpu.uploads)


def total(counts: Counter[str], own: bool) -> int:
    """Sum over mmfgl's lines, or over its parents'."""
    lines = counts.items()
    return sum(n for line, n in lines if line.startswith('mmfgl ') == own)


def markdown(results: dict) -> str:
    """The counts as a table, and the lines of mmfgl below it."""
    rows, lines = [], []
    for name, counts in results.items():
        cells = [
            total(counts[kind], own)
            for own in (True, False)
            for kind in ('waits', 'uploads')
        ]
        rows.append([name, *map(str, cells)])
        for kind in ('waits', 'uploads'):
            for line, number in sorted(counts[kind].items()):
                if line.startswith('mmfgl '):
                    lines.append(f'- {name}: {number} {kind} in `{line}`')
    header = ['step', 'own waits', 'uploads', "parents' waits", 'uploads']
    return '\n'.join([markdown_table(header, rows), '', *lines])


def main(argv: list[str] | None = None) -> None:
    """Count, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--out', help='folder of results.json and results.md')
    parser.add_argument('--device', choices=GPUS, default='pretended')
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    with user_errors(args.debug):
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Count, write and print."""
    MMLogger.get_instance('syncs', log_level='WARNING')
    results = {name: count(make, args.device) for name, make in CASES.items()}
    if args.out is not None:
        device = 'cuda' if args.device == 'cuda' else 'cpu'
        kept = dict(results, settings=dict(device=device))
        write_results(args.out, kept, markdown(results))
    print(markdown(results))


if __name__ == '__main__':
    main()
