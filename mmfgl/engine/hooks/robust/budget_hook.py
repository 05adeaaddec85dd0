"""Trains for a given time, whatever an iteration costs."""

import json
import math
import time
from pathlib import Path

import torch
from mmengine.dist import broadcast, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.registry import HOOKS


@HOOKS.register_module()
class BudgetHook(Hook):
    """End training after a wall-clock budget; anneal on the way there.

    For comparing methods at equal cost. The learning rates go up linearly
    during a first share of the budget, then down on a cosine. The run's
    ``max_iters`` is estimated anew after every iteration, so that whatever
    else follows ``iter / max_iters`` (the momentum of a teacher, say) keeps
    step with the clock, also on a machine whose speed varies. The clock
    starts with the first batch; loading of data counts, evaluation and
    building do not.

    Writes ``budget.json`` into the work dir when training ends: seconds,
    iterations and images (of one view each) that were spent.

    Args:
        seconds: The budget in seconds. ``None`` trains for the iterations of
            the config, with the same schedule.
        warmup: Share of the budget in which the learning rates rise.
        min_lr_ratio: Last learning rate, as a share of the configured one.
        views: Views that the model sees of an image, for ``budget.json``.

    Raises:
        ValueError: An argument is out of range, or the config has schedulers
            of its own.
    """

    priority = 'HIGH'  # max_iters is right when other hooks read it
    KEY = 'budget_seconds'

    def __init__(
        self,
        seconds: float | None = None,
        warmup: float = 0.05,
        min_lr_ratio: float = 0.01,
        views: int = 1,
    ) -> None:
        if seconds is not None and not seconds > 0:
            raise ValueError(f'seconds must be > 0, got {seconds}')
        if not 0 <= warmup < 1:
            raise ValueError(f'warmup must lie in [0, 1), got {warmup}')
        if not 0 <= min_lr_ratio <= 1:
            raise ValueError(
                f'min_lr_ratio must lie in [0, 1], got {min_lr_ratio}'
            )
        self.seconds = seconds
        self.warmup = warmup
        self.min_lr_ratio = min_lr_ratio
        self.views = views
        self.progress = 0.0
        self._start: float | None = None

    def factor_at(self, progress: float) -> float:
        """Learning rate at a point of the run, relative to the configured.

        Args:
            progress: Share of the budget that is spent, in [0, 1].

        Returns:
            A factor in [0, 1].
        """
        if progress < self.warmup:
            # the first step takes a small, but no zero learning rate
            return max(progress / self.warmup, 0.01)
        share = (progress - self.warmup) / (1 - self.warmup)
        cosine = (1 + math.cos(math.pi * min(share, 1.0))) / 2
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * cosine

    def before_train(self, runner: Runner) -> None:
        """Remember the configured learning rates and start the clock.

        Args:
            runner: The runner.

        Raises:
            ValueError: If learning rates have another scheduler already.
        """
        if runner.param_schedulers:
            raise ValueError(
                'BudgetHook sets the learning rates itself: set '
                'param_scheduler=[] in the config'
            )
        for group in runner.optim_wrapper.param_groups:
            # a checkpoint to resume from holds annealed rates
            group.setdefault('initial_lr', group['lr'])
        spent = 0.0
        if self.KEY in runner.message_hub.runtime_info:
            spent = runner.message_hub.get_info(self.KEY)
        self._start = time.monotonic() - spent
        self._update(runner, runner.iter)
        self._set_lr(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Estimate the number of iterations, or end the run.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
            outputs: Logged values.
        """
        self._update(runner, runner.iter + 1)
        self._set_lr(runner)  # of the next iteration

    def after_train(self, runner: Runner) -> None:
        """Write what was spent.

        Args:
            runner: The runner.
        """
        if not is_main_process():
            return
        batch = runner.train_dataloader.batch_size * get_world_size()
        spent = dict(
            seconds=round(runner.message_hub.get_info(self.KEY), 1),
            iters=runner.iter,
            images=runner.iter * batch * self.views,
        )
        path = Path(runner.work_dir) / 'budget.json'
        path.write_text(json.dumps(spent), encoding='utf-8')
        runner.logger.info(f'budget spent: {spent}')

    def _update(self, runner: Runner, done: int) -> None:
        """Set progress and ``max_iters`` after ``done`` iterations."""
        elapsed = self._elapsed()
        runner.message_hub.update_info(self.KEY, elapsed)
        if self.seconds is None:
            self.progress = done / runner.max_iters
            return
        self.progress = min(elapsed / self.seconds, 1.0)
        if not (done and elapsed):
            return
        # half an iteration more or less: the nearest to the budget
        if elapsed + elapsed / done / 2 >= self.seconds:
            self.progress, total = 1.0, done
        else:
            total = max(done + 1, round(done / self.progress))
        runner.train_loop._max_iters = total
        runner.message_hub.update_info('max_iters', total)

    def _set_lr(self, runner: Runner) -> None:
        factor = self.factor_at(self.progress)
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = group['initial_lr'] * factor

    def _elapsed(self) -> float:
        """Seconds since the start, on rank 0: all ranks end together."""
        elapsed = time.monotonic() - self._start
        if get_world_size() > 1:
            shared = torch.tensor([elapsed], dtype=torch.float64)
            broadcast(shared, 0)
            elapsed = float(shared)
        return elapsed
