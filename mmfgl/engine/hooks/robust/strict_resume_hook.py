"""Resuming that can not go wrong in silence."""

from __future__ import annotations

import hashlib
import os.path as osp
import textwrap
from collections import OrderedDict
from typing import Any

from mmengine.dist import (
    broadcast_object_list,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner, load_state_dict

from mmfgl.engine.hooks.robust.budget_hook import BudgetHook
from mmfgl.engine.hooks.robust.exact_resume_hook import IN_EPOCH
from mmfgl.engine.hooks.robust.resumed_schedule import config_wins
from mmfgl.utils import unwrap

_META = 'mmfgl_data'
_NAMES = 10_000  # of images, spread evenly, that go into the digest
# hook's key -> what it is called, and what gives it
_SETTINGS = dict(
    batch_size='the batch size of a process',
    world_size='the number of processes',
    accumulation='accumulative_counts',
    images='the number of images',
    names='the names of the images',
)


# those that decide how many batches an epoch has
_LENGTH = ('batch_size', 'world_size', 'images')


class StrictResumeHook(Hook):
    """Check the checkpoint that a run goes on from, before it is used.

    - The main process decides for all ranks which file it is.
    - Model and optimizer must be those of the config, key by key and shape by
      shape: MMEngine loads what fits, and goes on with the rest random.
    - Schedules and hyperparameters of the optimizer are the config's, also
      where the checkpoint has others (:func:`config_wins`): what one changes
      on resuming is meant to count. What differs is in a warning.
    - Other images, another batch size, number of processes or gradient
      accumulation than before give a warning: the run goes on, but not as if
      it had never stopped. They are in the checkpoint's ``meta``. Where epochs
      count, iterations are those of epochs of the new length.

    ``tools/train.py`` registers it in every run, whatever the config says.
    """

    priority = 5  # before VERY_HIGH: sees the checkpoint first

    def __init__(self) -> None:
        self.data: dict[str, Any] | None = None
        self.before: dict[str, Any] | None = None  # that of the checkpoint

    def before_run(self, runner: Runner) -> None:
        """Take over what the main process resumes from."""
        # Runner._resume and ._load_from, which load_or_resume reads next
        decided = [runner._resume, runner._load_from]
        broadcast_object_list(decided)
        runner._resume, runner._load_from = decided
        # other hooks look there
        runner.cfg.resume, runner.cfg.load_from = decided

    def before_train(self, runner: Runner) -> None:
        """Describe the data; on resuming, compare it with the checkpoint's."""
        if not is_main_process():
            return
        if runner._resume and (done := _all_done(runner)):
            runner.logger.warning(
                f'nothing is left to train: {runner._load_from} has done '
                f'{done}'
            )
        self.data, before = describe_data(runner), self.before
        if before is None:
            return
        changed = [
            f'{name} was {before[key]}, is {self.data[key]}'
            if key != 'names'
            else f'{name} of the data set differ'
            for key, name in _SETTINGS.items()
            if before.get(key, self.data[key]) != self.data[key]
        ]
        if changed:
            runner.logger.warning(
                'resumed with other data, so not as if the run had never '
                f'stopped: {"; ".join(changed)}'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the description into the checkpoint."""
        checkpoint['meta'][_META] = self.data

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint to resume from; the config's schedule wins.

        Raises:
            RuntimeError: It is no checkpoint of a run, or of another model or
                optimizer.
        """
        if not runner._resume:
            return
        source = runner._load_from
        needed = ['meta', 'state_dict', 'message_hub', 'optimizer']
        if runner.param_schedulers:
            needed.append('param_schedulers')
        missing = [key for key in needed if key not in checkpoint]
        if missing:
            raise RuntimeError(
                f'{source} has no {", ".join(missing)}, so no run can go on '
                'from it: to start a new run from its weights, set '
                'load_from, without --resume'
            )
        self.before = checkpoint['meta'].get(_META)
        _check_model(runner, checkpoint['state_dict'], source)
        if _counts_epochs(runner):
            now, before = describe_data(runner), self.before or {}
            same = all(now[key] == before.get(key) for key in _LENGTH)
            _fit_epochs(runner, checkpoint['meta'], same)
        if isinstance(runner.optim_wrapper, OptimWrapper):
            _check_optimizer(runner, checkpoint['optimizer'], source)
            for line in config_wins(runner, checkpoint):
                runner.logger.warning(f'the config wins: {line}')


def _counts_epochs(runner: Runner) -> bool:
    return not hasattr(runner.train_loop, 'dataloader_iterator')


def _all_done(runner: Runner) -> str:
    """How far a run is, if that is its end."""
    done, whole, unit = runner.iter, runner.max_iters, 'iterations'
    if _counts_epochs(runner):
        done, whole, unit = runner.epoch, runner.max_epochs, 'epochs'
    elif any(isinstance(h, BudgetHook) and h.seconds for h in runner.hooks):
        return ''  # the clock decides
    return f'{done} of {whole} {unit}' if done >= whole else ''


def _fit_epochs(runner: Runner, meta: dict, same: bool) -> None:
    """Count iterations as epochs of the new length would have, in place.

    Else the schedule, which the length of an epoch may decide, would be read
    at another place than that of the run. ``same`` tells that epochs are as
    long as they were.
    """
    epochs, within = meta['epoch'], meta.get(IN_EPOCH, 0)
    new = len(runner.train_loop.dataloader)
    whole = meta['iter'] - within
    old = new if same or not epochs else whole // epochs
    if whole != epochs * old:  # saved without ExactResumeHook
        runner.logger.warning(
            f'resumed within epoch {epochs + 1}, of which the checkpoint does '
            'not say how much is done: it is trained from its start. Add '
            "dict(type='mmfgl.ExactResumeHook') to custom_hooks"
        )
    elif old != new:
        within = within * new // old
        meta['iter'] = epochs * new + within
        if within:
            meta[IN_EPOCH] = within


def _check_model(runner: Runner, saved: dict, source: str) -> None:
    """Load the weights strictly (RuntimeError)."""
    state = OrderedDict((k.removeprefix('module.'), saved[k]) for k in saved)
    # module versions, which decide what is converted
    state._metadata = getattr(saved, '_metadata', OrderedDict())
    try:
        load_state_dict(unwrap(runner.model), state, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).split('\n')[1:]]
        report = '; '.join(textwrap.shorten(x, 300) for x in lines if x)
        key = next(iter(unwrap(runner.model).state_dict()))
        found = [k for k in state if k.endswith(f'.{key}')]
        if key not in state and found:
            prefix = found[0].removesuffix(key)
            report += f'; its keys begin with {prefix!r}, those here do not'
        raise RuntimeError(
            f'{source} is not of the model of this config, so the run can '
            f'not go on from it: {report}'
        ) from None


def _check_optimizer(runner: Runner, saved: dict, source: str) -> None:
    """Compare kind, groups and shapes of the optimizer's state."""
    optimizer = runner.optim_wrapper.optimizer
    groups = optimizer.param_groups
    problem = None
    counts = [
        [len(g['params']) for g in part]
        for part in (saved['param_groups'], groups)
    ]
    kind = {
        k
        for k, v in optimizer.defaults.items()
        if isinstance(v, float | tuple) and k not in saved['param_groups'][0]
    }
    if counts[0] != counts[1]:
        totals = [f'{sum(c)} parameters in {len(c)} groups' for c in counts]
        problem = f'it has {totals[0]}, that of the config {totals[1]}'
    elif kind:
        problem = f'it knows no {", ".join(sorted(kind))}'
    else:
        names = {p: n for n, p in unwrap(runner.model).named_parameters()}
        params = [p for g in groups for p in g['params']]
        numbers = [i for g in saved['param_groups'] for i in g['params']]
        for number, param in zip(numbers, params, strict=True):
            state = saved['state'].get(number, {})
            for key in ('exp_avg', 'exp_avg_sq', 'momentum_buffer'):
                value = state.get(key)
                if value is not None and value.shape != param.shape:
                    name = names.get(param, number)
                    shapes = tuple(value.shape), tuple(param.shape)
                    problem = f'{key} of {name}: {shapes[0]}, not {shapes[1]}'
    if problem:
        raise RuntimeError(
            f'the optimizer in {source} is not that of the config, so the '
            f'run can not go on from it: {problem}. To start a new run from '
            'its weights, set load_from, without --resume'
        )


def describe_data(runner: Runner) -> dict[str, Any]:
    """What a run must share with the one it continues, to be the same."""
    loader = runner.train_dataloader
    dataset, count = loader.dataset, len(loader.dataset)
    digest = hashlib.sha1()
    if hasattr(dataset, 'get_data_info'):
        for place in range(min(count, _NAMES)):
            info = dataset.get_data_info(place * count // min(count, _NAMES))
            path = info.get('img_path', '') if isinstance(info, dict) else ''
            # not the folder: data sets are moved
            name = osp.basename(str(path))
            digest.update(name.encode('utf-8', 'surrogateescape') + b'\n')
    wrapper = runner.optim_wrapper
    return dict(
        images=count,
        names=digest.hexdigest()[:16],
        batch_size=getattr(loader.batch_sampler, 'batch_size', None),
        world_size=get_world_size(),
        # OptimWrapper._accumulative_counts: it has no public name
        accumulation=getattr(wrapper, '_accumulative_counts', 1),
    )
