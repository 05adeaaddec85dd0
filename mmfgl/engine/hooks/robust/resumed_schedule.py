"""Schedules of a resumed run whose config has changed."""

from __future__ import annotations

import warnings
from typing import Any

from mmengine.runner import Runner

from mmfgl.engine.hooks.robust.exact_resume_hook import IN_EPOCH

# what a scheduler counts and computes; all else in its state are settings
_PROGRESS = (
    *('last_step', '_global_step', '_last_value', 'verbose'),
    *('best', 'num_bad_epochs', 'cooldown_counter'),
)
# of one process alone, or bookkeeping
_NO_SETTINGS = ('params', 'foreach', 'fused', 'capturable', 'differentiable')


def config_wins(runner: Runner, checkpoint: dict) -> list[str]:
    """Let the schedules of the config, not the checkpoint's, go on.

    MMEngine restores a scheduler with all its settings, so a longer schedule
    in the config counts for nothing: the learning rate stays at the old end.
    Here, if settings differ, the config's schedulers are stepped to where the
    checkpoint is, and the checkpoint, in memory, gets their state: the run
    goes on with the rates that a run of the new config would have there. If
    nothing differs, the checkpoint stays as it is, to the bit.

    Hyperparameters of the optimizer (learning rate, weight decay, ...) that
    no scheduler drives are those of the config as well.

    Returns:
        What differs, a line each.
    """
    schedulers = runner.param_schedulers or []
    saved = checkpoint.get('param_schedulers', [])
    changes = _schedule_changes([s.state_dict() for s in schedulers], saved)
    rescheduled = bool(changes)
    monitored = any(hasattr(s, 'monitor') for s in schedulers)
    if monitored:
        # one's past can not be replayed: new settings, old progress
        for scheduler, state in zip(schedulers, saved, strict=False):
            for key, value in scheduler.state_dict().items():
                if key not in _PROGRESS:
                    state[key] = value
        rescheduled = False
    elif rescheduled:
        meta = checkpoint['meta']
        length = 0  # of an epoch; a run that counts iterations has but one
        if meta['epoch'] and not hasattr(
            runner.train_loop, 'dataloader_iterator'
        ):
            whole = meta['iter'] - meta.get(IN_EPOCH, 0)
            length = whole // meta['epoch']
        _replay(schedulers, meta['iter'], length, meta['epoch'])
        states = [s.state_dict() for s in schedulers]
        checkpoint['param_schedulers'] = states
    constant = bool(saved) and not schedulers
    changes += _optimizer_wins(
        runner, checkpoint, rescheduled, constant, monitored
    )
    return list(dict.fromkeys(changes))


def _optimizer_wins(
    runner: Runner,
    checkpoint: dict,
    rescheduled: bool,
    constant: bool,
    monitored: bool,
) -> list[str]:
    """Let the optimizer's settings of the config go on; what differs.

    Args:
        runner: The resumed run.
        checkpoint: The checkpoint, whose ``optimizer`` is changed in place.
        rescheduled: Whether the config's schedulers were replayed.
        constant: Whether what was scheduled is so no longer.
        monitored: Whether a scheduler follows a metric, so that its past is
            kept: as a factor of what it began with.
    """
    changes = []
    driven = {s.param_name for s in runner.param_schedulers or []}
    if 'momentum' in driven:
        driven.add('betas')  # what Adam calls it
    wrapper, optimizer = runner.optim_wrapper, checkpoint['optimizer']
    pairs = list(
        zip(
            optimizer['param_groups'],
            wrapper.optimizer.param_groups,
            strict=True,
        )
    )
    # OptimWrapper.base_param_settings: a group of no parameters, for the log
    if optimizer.get('base_param_settings'):
        base = optimizer['base_param_settings'] = dict(
            optimizer['base_param_settings']
        )
        pairs.append((base, wrapper.base_param_settings))
    for old, new in pairs:
        for key, value in new.items():
            if key in _NO_SETTINGS or key not in old:
                continue
            if key in driven or key.startswith('initial_'):
                if rescheduled:
                    old[key] = value
                begin = f'initial_{key}'
                if monitored and begin in old and begin in new:
                    was, now = old[begin], new[begin]
                    if was and was != now:
                        changes.append(f'{key} began with {was}, now {now}')
                        old[key], old[begin] = old[key] * now / was, now
                continue
            initial = old.get(f'initial_{key}', old[key])
            if _plain(initial) != _plain(value):
                changes.append(f'{key} was {initial}, is {value}')
                old[key] = value
                # BudgetHook starts from it
                if f'initial_{key}' in old:
                    old[f'initial_{key}'] = value
            if constant:
                old[key] = value
    return changes


def _schedule_changes(new: list[dict], old: list[dict]) -> list[str]:
    """Settings in which two lists of schedulers' states differ."""
    if len(new) != len(old):
        return [f'{len(old)} schedulers in the checkpoint, {len(new)} now']
    changes = []
    for number, (one, other) in enumerate(zip(new, old, strict=True)):
        for key in sorted(one.keys() | other.keys()):
            if key in _PROGRESS:
                continue
            was, now = other.get(key), one.get(key)
            if _plain(was) != _plain(now):
                if key == 'base_values':  # one a group
                    pairs = zip(was, now, strict=False)
                    was, now = next(p for p in pairs if p[0] != p[1])
                changes.append(
                    f'{key} of scheduler {number} was {was}, is {now}'
                )
    return changes


def _plain(value: Any) -> Any:
    """A value in a form that compares by content."""
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return dict(value) if isinstance(value, dict) else value


def _replay(schedulers: list, iters: int, length: int, epochs: int) -> None:
    """Step fresh schedulers as a run of so many iterations would have."""
    by_iter = [s for s in schedulers if not s.by_epoch]
    by_epoch = [s for s in schedulers if s.by_epoch]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of steps before the optimizer's
        for done in range(1, iters + 1):
            for scheduler in by_iter:
                scheduler.step()
            if length and done % length == 0 and done <= epochs * length:
                for scheduler in by_epoch:
                    scheduler.step()
