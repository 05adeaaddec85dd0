"""Watches a self-distillation for collapse; warns, or stops the run."""

from __future__ import annotations

from collections import deque
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmfgl.registry import HOOKS
from mmfgl.utils.collapse import TokenRank, distillation_statistics
from mmfgl.utils.collapse_symptoms import describe_collapse

_STATE = 'mmfgl_collapse_monitor'
_BLIND_LOOKS = 20


class CollapseError(RuntimeError):
    """The pretraining has collapsed."""


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    """Log the health of a ReToD pretraining; raise the alarm on collapse.

    It reads what the forward pass has computed anyway. Every ``interval``
    iterations it logs, over all ranks and the last ``window`` looks,

    - ``collapse/entropy`` of a target and ``collapse/diversity``, the entropy
      of the mean target, both over log K. Their difference,
      ``collapse/information``, is what a target tells about its region;
    - ``collapse/kl`` of teacher and student over log K;
    - ``collapse/rank``, the effective rank (RankMe, arXiv 2210.02885) of the
      teacher's region tokens, without their mean, and
      ``collapse/rank_share``, over that at the start;
    - ``collapse/centre``, the norm of the centre, where targets are centred.

    The alarm rings when, after the warm-up, a symptom has held for as long as
    ``patience``:

    - ``uniform``: entropy above ``max_entropy``, or information below
      ``min_information``;
    - ``one_hot``: entropy and diversity both below ``min_entropy`` and
      ``min_diversity``; sharp targets alone are no harm;
    - ``same``: diversity below ``min_diversity``;
    - ``rank``: rank below ``min_rank_share`` of its start, or below
      ``min_rank`` of D;
    - ``copied``: KL below ``min_kl`` with the rank below
      ``falling_rank_share`` of its start.

    Warm-up and patience are shares of the run, so that a collapse in the
    first tenth is reported before a fifth of the schedule. The state is in
    the checkpoint.

    Args:
        action: ``'warn'``, or ``'stop'``: save a checkpoint and end the run
            with a :class:`CollapseError`.
        interval: Iterations between two looks; ``None`` for 1/200 of the run.
        window: Looks over which statistics are taken.
        warmup: Share of the run without alarm; its last ``window`` looks give
            the rank at the start.
        patience: Share of the run for which a symptom must hold.
        max_entropy: See above, as are the next seven.
        min_information: Entropies are shares of log K.
        min_entropy: Below it a target is as good as one-hot.
        min_diversity: Below it all regions get the same target.
        min_rank_share: Share of the rank at the start.
        min_rank: Share of the token width D.
        min_kl: Share of log K.
        falling_rank_share: Share of the rank at the start.
    """

    priority = 'LOW'  # after the teacher has moved, before checkpoints

    def __init__(
        self,
        action: str = 'warn',
        interval: int | None = None,
        window: int = 4,
        warmup: float = 0.05,
        patience: float = 0.04,
        max_entropy: float = 0.99,
        min_information: float = 0.05,
        min_entropy: float = 0.01,
        min_diversity: float = 0.3,
        min_rank_share: float = 0.3,
        min_rank: float = 0.03,
        min_kl: float = 0.001,
        falling_rank_share: float = 0.6,
    ) -> None:
        if action not in ('warn', 'stop'):
            raise ValueError(
                f"action must be 'warn' or 'stop', got {action!r}"
            )
        if not (0 <= warmup < 1 and 0 <= patience < 1):
            raise ValueError('warmup and patience are shares of the run')
        self.action = action
        self.interval = interval
        self.window = window
        self.warmup = warmup
        self.patience = patience
        self.max_entropy = max_entropy
        self.min_information = min_information
        self.min_entropy = min_entropy
        self.min_diversity = min_diversity
        self.min_rank_share = min_rank_share
        self.min_rank = min_rank
        self.min_kl = min_kl
        self.falling_rank_share = falling_rank_share

    def before_train(self, runner: Runner) -> None:
        """Listen to the modules that see tokens and targets.

        Args:
            runner: The runner.
        """
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        losses = [
            loss
            for name in ('loss_distill', 'loss_mask')
            if (loss := getattr(model.head, name, None)) is not None
        ]
        self._handles = []
        self._targets = getattr(model.head, 'targets', None)
        self._on, self._stats, self._seen = False, None, False
        self._rank, self._width = TokenRank(self.window), 0
        self._recent: deque[dict] = deque(maxlen=self.window)
        self._looks = self._blind = 0
        self.state = runner.message_hub.runtime_info.get(
            _STATE, dict(start_rank=None, since={}, alarms=[])
        )
        if not losses:
            runner.logger.warning(
                'CollapseMonitorHook has nothing to watch: distillation and '
                'masking are off in this config'
            )
            return
        self._handles.append(
            model.teacher.projector.register_forward_pre_hook(self._see)
        )
        for loss in losses:
            self._handles.append(loss.register_forward_hook(self._compare))

    def after_train(self, runner: Runner) -> None:
        """Stop listening.

        Args:
            runner: The runner.
        """
        for handle in self._handles:
            handle.remove()

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Look at this iteration, or don't.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
        """
        # the length of the run may be estimated anew as it goes on
        every = self.interval or max(1, round(runner.max_iters / 200))
        self._on = bool(self._handles) and self.every_n_train_iters(
            runner, every
        )
        self._stats, self._seen = None, False

    def _see(self, module: nn.Module, args: tuple) -> None:
        if self._on:
            self._rank.add(args[0])
            self._width, self._seen = args[0].shape[-1], True

    def _compare(self, module: nn.Module, args: tuple, output: Any) -> None:
        if self._on and self._stats is None:
            self._stats = distillation_statistics(
                *args[:3], temperature=module.temperature
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Log the statistics and judge them.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
            outputs: Logged values.

        Raises:
            CollapseError: On an alarm, with ``action='stop'``.
            RuntimeError: The model never computes targets.
        """
        if not self._on:
            return
        self._looks += 1
        if not self._seen or self._stats is None:
            # a balancer leaves tasks out of some iterations, but not of all
            self._blind += 1
            if self._blind == self._looks == _BLIND_LOOKS:
                raise RuntimeError(
                    'CollapseMonitorHook has not seen a region token and its '
                    f'target in {_BLIND_LOOKS} looks: it works with '
                    'mmfgl.ReToD; remove the hook for other models'
                )
            return
        stats = self._statistics()
        for name, value in stats.items():
            runner.message_hub.update_scalar(f'train/collapse/{name}', value)
        done = (runner.iter + 1) / runner.max_iters
        if done >= self.warmup and self._rank.full:
            if self.state['start_rank'] is None:
                self.state['start_rank'] = stats['rank']
            self._judge(runner, stats)
        runner.message_hub.update_info(_STATE, self.state)

    def _statistics(self) -> dict[str, float]:
        """Names and values of the statistics of this look."""
        self._recent.append(self._stats)
        stats = {
            name: sum(look[name] for look in self._recent) / len(self._recent)
            for name in self._stats
        }
        stats['information'] = stats['diversity'] - stats['entropy']
        stats['rank'] = self._rank.value()
        if self.state['start_rank'] is not None:
            stats['rank_share'] = stats['rank'] / self.state['start_rank']
        if getattr(self._targets, 'mode', None) == 'centring':
            stats['centre'] = float(self._targets.centre.norm())
        return stats

    def symptoms(self, stats: dict[str, float], width: int) -> list[str]:
        """Names of the symptoms that a look shows.

        Args:
            stats: ``entropy``, ``diversity``, ``information``, ``kl``,
                ``rank`` and, once known, ``rank_share``.
            width: Token width D.
        """
        share = stats.get('rank_share', 1.0)
        signs = dict(
            uniform=stats['entropy'] > self.max_entropy
            or stats['information'] < self.min_information,
            one_hot=stats['entropy'] < self.min_entropy
            and stats['diversity'] < self.min_diversity,
            same=stats['diversity'] < self.min_diversity,
            rank=share < self.min_rank_share
            or stats['rank'] < self.min_rank * width,
            copied=stats['kl'] < self.min_kl
            and share < self.falling_rank_share,
        )
        return [name for name, sign in signs.items() if sign]

    def _judge(self, runner: Runner, stats: dict[str, float]) -> None:
        """Ring the alarm for symptoms that have lasted."""
        now, since = runner.iter + 1, self.state['since']
        progress = now / runner.max_iters
        shown = self.symptoms(stats, self._width)
        for name in [name for name in since if name not in shown]:
            del since[name]
        for name in shown:
            since.setdefault(name, (now, progress))
        lasting = [n for n in shown if progress - since[n][1] >= self.patience]
        new = [n for n in lasting if n not in self.state['alarms']]
        self.state['alarms'] = lasting
        if not new:
            return
        message = describe_collapse(
            {name: since[name][0] for name in new},
            now,
            runner.max_iters,
            stats,
        )
        if self.action == 'warn':
            runner.logger.warning(message)
            return
        runner.message_hub.update_info(_STATE, self.state)
        name = f'collapsed_iter_{now}.pth'
        runner.save_checkpoint(runner.work_dir, name, by_epoch=False)
        raise CollapseError(
            f'{message}\nThe weights are in {runner.work_dir}/{name}; '
            "action='warn' of CollapseMonitorHook would go on."
        )
