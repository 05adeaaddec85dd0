"""What a run is, in a dozen lines, before its first iteration."""

from __future__ import annotations

import datetime
import logging
import time
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmfgl.engine.hooks.robust.budget_hook import BudgetHook
from mmfgl.engine.hooks.strict_load_hook import StrictLoadHook
from mmfgl.utils import unwrap
from mmfgl.utils.machine import machine_settings
from mmfgl.utils.quiet import end_quiet_start

PARENTS = ('mmdet', 'mmpretrain', 'mmcv', 'mmengine', 'torch', 'Python')
MEASURED = 10  # iterations that the time to go is estimated from


class StartSummaryHook(Hook):
    """Say what runs, on what, from which weights, and for how long.

    The summary comes when everything is built and loaded; with the first
    batch, of training or of testing, the quiet start ends
    (:class:`mmfgl.utils.quiet.QuietStart`). After a few iterations of a long
    training it says how long the rest will take.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._first: int | None = None  # iteration
        self._start = 0.0

    def before_train(self, runner: Runner) -> None:
        """Log the summary."""
        rows = dict(
            versions=versions(),
            machine=machine(runner),
            config=runner.cfg.filename or 'not from a file',
            data=data(runner),
            model=model(runner),
            weights=weights(runner),
            schedule=schedule(runner),
            output=output(runner),
        )
        lines = [f'  {key:<9} {text}' for key, text in rows.items()]
        runner.logger.info('\n'.join(['Ready to train', *lines]))

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """End the quiet start."""
        if self._first is None:
            self._first = runner.iter
            end_quiet_start(runner.logger)

    def before_test_iter(self, runner: Runner, *args, **kwargs) -> None:
        """End the quiet start."""
        end_quiet_start(runner.logger)

    def before_val_iter(self, runner: Runner, *args, **kwargs) -> None:
        """End the quiet start."""
        end_quiet_start(runner.logger)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Say when the run will end, once, from its first iterations."""
        done = runner.iter + 1 - self._first
        if done == 1:  # which is slower than the others
            self._start = time.monotonic()
        left = runner.max_iters - runner.iter - 1
        if done != 1 + MEASURED or left < 5 * MEASURED or budget(runner):
            return
        seconds = (time.monotonic() - self._start) / MEASURED
        rest = datetime.timedelta(seconds=round(seconds * left))
        end = (datetime.datetime.now() + rest).strftime('%d %b, %H:%M')
        runner.logger.info(
            f'ETA: {rest} for {left} iterations of {seconds:.3g} s, until '
            f'{end}; evaluation not counted'
        )


def versions() -> str:
    """Those of mmfgl and its parents."""
    found = machine_settings()
    parents = ', '.join(f'{name} {found[name]}' for name in PARENTS)
    return f'mmfgl {found["mmfgl"]}; {parents}'


def machine(runner: Runner) -> str:
    """Processes, device and seed."""
    ranks = get_world_size()
    place = f'the CPU, {torch.get_num_threads()} thread(s)'
    if torch.cuda.is_available():
        place = torch.cuda.get_device_name()
    some = f'{ranks} processes' if ranks > 1 else '1 process'
    return f'{some} on {place}; seed {runner.seed}'


def data(runner: Runner) -> str:
    """Images and batches of training, images of validation."""
    loader = runner.train_dataloader
    sampler = loader.batch_sampler
    size = getattr(sampler, 'batch_size', loader.batch_size)
    ranks = get_world_size()
    across = f' on each of {ranks} processes' if ranks > 1 else ''
    text = (
        f'{_images(loader)} to train on, batches of {size}{across}, '
        f'{loader.num_workers} worker(s)'
    )
    if runner.val_loop is not None:
        text += f'; {_images(runner.val_loop.dataloader)} to validate on'
    return text


def _images(loader: DataLoader) -> str:
    """Number of images and type of a data set."""
    return f'{len(loader.dataset)} images ({type(loader.dataset).__name__})'


def model(runner: Runner) -> str:
    """Class and parameters."""
    net = unwrap(runner.model)
    sizes = [(p.numel(), p.requires_grad) for p in net.parameters()]
    total = sum(size for size, _ in sizes) / 1e6
    trained = sum(size for size, needed in sizes if needed) / 1e6
    return (
        f'{type(net).__name__}, {total:.2f} M parameters, {trained:.2f} M of '
        'them trained'
    )


def weights(runner: Runner) -> str:
    """Where those of each module are from."""
    if runner.cfg.get('resume'):
        source = runner.cfg.get('load_from') or 'the latest checkpoint'
        return (
            f'resumed from {source}: epoch {runner.epoch}, iteration '
            f'{runner.iter}'
        )
    for hook in runner.hooks:
        if isinstance(hook, StrictLoadHook):
            lines = hook.origins(unwrap(runner.model))
            return ('\n' + ' ' * 12).join(lines)
    return 'not checked'


def schedule(runner: Runner) -> str:
    """Length, optimizer, precision and evaluation."""
    seconds, loop = budget(runner), runner.train_loop
    length = f'{runner.max_iters} iterations, {runner.max_epochs} epochs'
    if getattr(runner.cfg.get('train_cfg'), 'by_epoch', None) is False or (
        'Iter' in type(loop).__name__
    ):
        length = f'{runner.max_iters} iterations'
    if seconds:
        length = f'{seconds:.0f} s'
    wrapper = runner.optim_wrapper
    kind, rates = type(wrapper).__name__, _rates(wrapper)
    optimizer = type(getattr(wrapper, 'optimizer', wrapper)).__name__
    text = f'{length}; {optimizer}, lr {rates}'
    if kind != 'OptimWrapper':
        text += f', {kind}'
    if runner.val_loop is not None and hasattr(loop, 'val_interval'):
        text += f'; validation every {loop.val_interval}'
    if not seconds:
        text += f'; ETA after {MEASURED} iterations'
    return text


def _rates(wrapper: Any) -> str:
    """The largest learning rates as configured, of all groups."""
    groups = wrapper.param_groups if hasattr(wrapper, 'param_groups') else []
    rates = {group.get('initial_lr', group['lr']) for group in groups}
    low, high = min(rates, default=0), max(rates, default=0)
    return f'{high:.3g}' if low == high else f'{low:.3g} to {high:.3g}'


def budget(runner: Runner) -> float | None:
    """Seconds of a run that ends by the clock."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, BudgetHook)]
    return hooks[0].seconds if hooks else None


def output(runner: Runner) -> str:
    """Folder, checkpoints and log file."""
    text = runner.work_dir
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            unit = 'epochs' if hook.by_epoch else 'iterations'
            text += f', a checkpoint every {hook.interval} {unit}'
    files = [
        handler.baseFilename
        for handler in runner.logger.handlers
        if isinstance(handler, logging.FileHandler)
    ]
    if files:
        text += (
            f'\n{" " * 12}environment, whole config and hooks are in '
            f'{files[0]}'
        )
    return text
