"""Watches a self-distillation for collapse; warns, or stops the run."""

from __future__ import annotations

from collections import deque

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmfgl.engine.hooks.robust.atomic_checkpoint_hook import (
    atomic_backend,
)
from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap
from mmfgl.utils.collapse import TokenRank, describe_collapse

_STATE = 'mmfgl_collapse_monitor'
_BLIND_LOOKS = 20


class CollapseError(RuntimeError):
    """The pretraining has collapsed."""


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    """Log the health of a ReToD pretraining; raise the alarm on collapse.

    It reads what the forward pass has computed anyway: the logged
    ``teacher_entropy``, ``teacher_diversity`` and ``kl_distill`` (or
    ``kl_mask``), and the tokens that the EMA teacher projects. 200 times a
    run it logs, over all ranks and the last ``window`` looks,

    - ``collapse/entropy`` of a target and ``collapse/diversity``, the entropy
      of a batch's mean target, both over log K. Their difference,
      ``collapse/information``, is what a target tells about its region;
    - ``collapse/kl`` of teacher and student over log K;
    - ``collapse/rank``, the effective rank (RankMe, arXiv 2210.02885) of the
      teacher's region tokens, without their mean, and
      ``collapse/rank_share``, over that at the start.

    Looks at which a value is not finite are left out. The alarm rings when,
    after the warm-up, a symptom (see :func:`symptoms`) has held for as long
    as ``patience``: a collapse in the first tenth of the run is reported
    before its fifth. The rank at the start and the symptoms so far are in the
    checkpoint; after resuming, the window of looks fills anew.

    Args:
        action: ``'warn'``, or ``'stop'``: save a checkpoint and end the run
            with a :class:`CollapseError`.
        window: Looks over which statistics are taken.
        warmup: Share of the run without alarm; its last ``window`` looks give
            the rank at the start.
        patience: Share of the run for which a symptom must hold.
    """

    priority = 'LOW'  # after the teacher has moved, before checkpoints

    def __init__(
        self,
        action: str = 'warn',
        window: int = 4,
        warmup: float = 0.05,
        patience: float = 0.04,
    ) -> None:
        if action not in ('warn', 'stop'):
            raise ValueError(
                f"action must be 'warn' or 'stop', got {action!r}"
            )
        if not (0 <= warmup < 1 and 0 <= patience < 1):
            raise ValueError('warmup and patience are shares of the run')
        self.action = action
        self.window = window
        self.warmup = warmup
        self.patience = patience

    def before_train(self, runner: Runner) -> None:
        """Listen to the module that sees the teacher's tokens."""
        teacher = getattr(unwrap(runner.model), 'target_generator', None)
        projector = getattr(teacher, 'projector', None)
        self._handle = None
        self._on, self._tokens = False, None
        self._rank = TokenRank(self.window)
        self._recent: deque[Tensor] = deque(maxlen=self.window)
        self._looks = self._blind = 0
        self.state = runner.message_hub.runtime_info.get(
            _STATE, dict(start_rank=None, since={}, alarms=[])
        )
        if projector is not None:
            self._handle = projector.register_forward_pre_hook(self._see)
        elif not is_rehearsal(runner):
            runner.logger.warning(
                'CollapseMonitorHook has nothing to watch: this model has no '
                'EMA teacher with prototypes'
            )

    def after_train(self, runner: Runner) -> None:
        """Stop listening."""
        if self._handle is not None:
            self._handle.remove()

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Look at this iteration, or don't."""
        # the length of the run may be estimated anew as it goes on
        every = max(1, round(runner.max_iters / 200))
        due = (runner.iter + 1) % every == 0
        self._on = due and self._handle is not None
        self._tokens = None

    def _see(self, module: nn.Module, args: tuple) -> None:
        if self._on:
            self._tokens = args[0].detach()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        """Log the statistics and judge them.

        Raises:
            CollapseError: On an alarm, with ``action='stop'``.
            RuntimeError: The model never computes targets.
        """
        if not self._on:
            return
        self._looks += 1
        kl = outputs.get('kl_distill', outputs.get('kl_mask'))
        if self._tokens is None or kl is None:
            # a balancer leaves tasks out of some iterations, but not of all
            self._blind += 1
            if self._blind == self._looks == _BLIND_LOOKS:
                raise RuntimeError(
                    'CollapseMonitorHook has not seen a region token and its '
                    f'target in {_BLIND_LOOKS} looks: remove it where region '
                    'distillation and masked regions are off'
                )
            return
        stats = self._statistics(outputs, kl)
        if not stats:
            return
        for name, value in stats.items():
            runner.message_hub.update_scalar(f'train/collapse/{name}', value)
        done = (runner.iter + 1) / runner.max_iters
        if done >= self.warmup and self._rank.full:
            if self.state['start_rank'] is None:
                self.state['start_rank'] = stats['rank']
            self._judge(runner, stats)
        runner.message_hub.update_info(_STATE, self.state)

    def _statistics(self, outputs: dict, kl: Tensor) -> dict[str, float]:
        """Statistics of the last looks; none if this one is not finite."""
        tokens = self._tokens.float()
        values = [outputs['teacher_entropy'], outputs['teacher_diversity'], kl]
        look = tokens.new_tensor([*values, tokens.abs().sum()])
        all_reduce(look, op='mean')
        if not torch.isfinite(look).all():
            return {}
        self._rank.add(tokens)
        self._recent.append(look[:3])
        means = torch.stack(list(self._recent)).mean(dim=0).tolist()
        stats = dict(zip(('entropy', 'diversity', 'kl'), means, strict=True))
        stats['information'] = stats['diversity'] - stats['entropy']
        stats['rank'] = self._rank.value()
        if self.state['start_rank'] is not None:
            stats['rank_share'] = stats['rank'] / self.state['start_rank']
        return stats

    def _judge(self, runner: Runner, stats: dict[str, float]) -> None:
        """Ring the alarm for symptoms that have lasted."""
        now, since = runner.iter + 1, self.state['since']
        progress = now / runner.max_iters
        shown = symptoms(stats, self._tokens.shape[-1])
        for name in [name for name in since if name not in shown]:
            del since[name]
        for name in shown:
            since.setdefault(name, (now, progress))
        lasting = [n for n in shown if progress - since[n][1] >= self.patience]
        new = [n for n in lasting if n not in self.state['alarms']]
        self.state['alarms'] = lasting
        if not new:
            return
        began = {name: since[name][0] for name in new}
        message = describe_collapse(began, now, runner.max_iters, stats)
        if self.action == 'warn':
            runner.logger.warning(message)
            return
        runner.message_hub.update_info(_STATE, self.state)
        name = f'collapsed_iter_{now}.pth'
        saving = atomic_backend(runner)
        runner.save_checkpoint(
            runner.work_dir, name, by_epoch=False, backend_args=saving
        )
        barrier()  # the main process saves; no other may end the run before
        raise CollapseError(
            f'{message}\nThe weights are in {runner.work_dir}/{name}; '
            "action='warn' of CollapseMonitorHook would go on."
        )


def symptoms(stats: dict[str, float], width: int) -> list[str]:
    """Names of the symptoms that a look shows; ``width`` is D.

    ``stats`` are ``entropy``, ``diversity``, ``information`` and ``kl`` over
    log K, ``rank`` and, once known, ``rank_share``.
    """
    share = stats.get('rank_share', 1.0)
    same = stats['diversity'] < 0.3  # all regions get the same target
    signs = dict(
        uniform=stats['entropy'] > 0.99 or stats['information'] < 0.05,
        one_hot=same and stats['entropy'] < 0.01,  # sharp alone is no harm
        same=same,
        rank=share < 0.3 or stats['rank'] < 0.03 * width,
        copied=stats['kl'] < 0.001 and share < 0.6,
    )
    return [name for name, sign in signs.items() if sign]
