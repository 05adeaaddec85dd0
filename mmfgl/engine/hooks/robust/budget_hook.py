"""Trains for a given time, whatever an iteration costs."""

import json
import math
import time
from pathlib import Path

import torch
from mmengine.dist import broadcast, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils.atomic_files import write_atomically

KEY = 'budget_seconds'


@HOOKS.register_module()
class BudgetHook(Hook):
    """End training after a wall-clock budget; anneal on the way there.

    For comparing methods at equal cost. The learning rates go up linearly
    during a first share of the budget, then down on a cosine. The run's
    ``max_iters`` is estimated anew after every iteration, so that whatever
    else follows ``iter / max_iters`` (the momentum of a teacher, say) keeps
    step with the clock, also on a machine whose speed varies. The clock
    starts when training does; loading of data counts, validation and building
    do not.

    At the end, ``budget.json`` in the work dir tells the seconds, iterations
    and images (of one view each) that were spent.

    Args:
        seconds: The budget; ``None`` for the iterations of the config.
        warmup: Share of the budget in which the learning rates rise.
        min_lr_ratio: Last learning rate, as a share of the configured one.
        views: Views that the model sees of an image, for ``budget.json``.

    Raises:
        ValueError: An argument is out of range.
    """

    priority = 'HIGH'  # max_iters is right when other hooks read it

    def __init__(
        self,
        seconds: float | None = None,
        warmup: float = 0.05,
        min_lr_ratio: float = 0.01,
        views: int = 1,
    ) -> None:
        if seconds is not None and seconds <= 0:
            raise ValueError(f'seconds must be > 0, got {seconds}')
        if not (0 <= warmup < 1 and 0 <= min_lr_ratio <= 1):
            raise ValueError(
                'warmup must be in [0, 1) and min_lr_ratio in [0, 1], got '
                f'{warmup} and {min_lr_ratio}'
            )
        self.seconds = seconds
        self.warmup = warmup
        self.min_lr_ratio = min_lr_ratio
        self.views = views
        self.progress = 0.0
        self._start: float | None = None
        self._val_start = 0.0

    def factor_at(self, progress: float) -> float:
        """Share of the learning rate after this share of the budget."""
        if progress < self.warmup:
            # the first step takes a small, but no zero learning rate
            return max(progress / self.warmup, 0.01)
        share = (progress - self.warmup) / (1 - self.warmup)
        cosine = (1 + math.cos(math.pi * min(share, 1.0))) / 2
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * cosine

    def before_train(self, runner: Runner) -> None:
        """Remember the configured learning rates and start the clock.

        Raises:
            ValueError: The config has schedulers of its own, or counts
                epochs, which do not end by the clock.
        """
        if runner.param_schedulers:
            raise ValueError(
                'BudgetHook sets the learning rates itself: set '
                'param_scheduler=[] in the config'
            )
        # IterBasedTrainLoop alone asks for max_iters each time
        by_iter = hasattr(runner.train_loop, 'dataloader_iterator')
        if self.seconds is not None and not by_iter:
            raise ValueError(
                'BudgetHook(seconds=...) needs an IterBasedTrainLoop: set '
                'train_cfg.type and max_iters in the config'
            )
        if self.seconds is not None:
            # gradients accumulated to a known end would be divided by it
            runner.optim_wrapper.initialize_count_status(
                runner.model, runner.iter, -1
            )
        for group in runner.optim_wrapper.param_groups:
            # a checkpoint to resume from holds annealed rates
            group.setdefault('initial_lr', group['lr'])
        spent = runner.message_hub.runtime_info.get(KEY, 0.0)
        self._start = time.monotonic() - spent
        self._update(runner, runner.iter)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Estimate the number of iterations, or end the run."""
        self._update(runner, runner.iter + 1)

    def before_val(self, runner: Runner) -> None:
        """Stop the clock."""
        self._val_start = time.monotonic()

    def after_val(self, runner: Runner) -> None:
        """Start the clock again, if it ran at all."""
        if self._start is not None:
            self._start += time.monotonic() - self._val_start

    def after_train(self, runner: Runner) -> None:
        """Write what was spent."""
        if not is_main_process() or is_rehearsal(runner):
            return
        loader = runner.train_dataloader
        # a batch sampler of one's own, of images of one shape say, has it
        batch = loader.batch_size or loader.batch_sampler.batch_size
        batch *= get_world_size()
        spent = dict(
            seconds=round(runner.message_hub.get_info(KEY), 1),
            iters=runner.iter,
            images=runner.iter * batch * self.views,
        )
        path = Path(runner.work_dir) / 'budget.json'
        write_atomically(json.dumps(spent).encode(), path)
        runner.logger.info(f'budget spent: {spent}')

    def _update(self, runner: Runner, done: int) -> None:
        """Set progress, ``max_iters`` and rates after ``done`` iterations."""
        elapsed = time.monotonic() - self._start
        if get_world_size() > 1:  # all ranks end together, by rank 0's clock
            shared = torch.tensor([elapsed], dtype=torch.float64)
            broadcast(shared, 0)
            elapsed = float(shared)
        runner.message_hub.update_info(KEY, elapsed)
        if self.seconds is None:
            self.progress = done / runner.max_iters
        else:
            self.progress = min(elapsed / self.seconds, 1.0)
            if done and elapsed:
                # half an iteration more or less: the nearest to the budget
                if elapsed + elapsed / done / 2 >= self.seconds:
                    self.progress, total = 1.0, done
                else:
                    total = max(done + 1, round(done / self.progress))
                # IterBasedTrainLoop._max_iters: the loop asks it each time
                runner.train_loop._max_iters = total
                runner.message_hub.update_info('max_iters', total)
        factor = self.factor_at(self.progress)
        for group in runner.optim_wrapper.param_groups:
            group['lr'] = group['initial_lr'] * factor  # of the next step
