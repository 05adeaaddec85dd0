"""Which tasks run in a step: probabilities by weight over cost.

Shape shorthand: T tasks.
"""

from collections.abc import Sequence

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.models.balancers.base import TaskDraw
from mmfgl.utils.host_value import HostValue


class TaskSampler(BaseModule):
    """Draw tasks with probability ``clip(speed * z_k / c_k, q_min, 1)``.

    z_k is the weight of task k and c_k its cost, both as shares of their sum.
    A task that runs is scaled by 1/q, so that the expected gradient is that
    of running all. At ``speed`` >= 1 some task has ``z_k >= c_k``, so at
    least one always runs.

    Costs are the measured seconds of the forward pass (the backward pass is
    taken to be in proportion), averaged over ranks. They are measured in the
    first ``warmup`` steps, when all tasks run, and every ``interval`` steps
    after: the device is waited for then only. Measured times differ from run
    to run, and with them the draws; ``costs`` fixes both.

    Args:
        tasks: Names of the tasks.
        speed: Factor on z_k / c_k, at least 1; larger values skip less.
        q_min: Least probability of a task, in (0, 1].
        costs: Costs by task, instead of measured ones.
        warmup: Steps before any task is skipped.
        interval: Steps between measurements.
        momentum: Share of the old cost that is kept at a measurement.
        seed: Seed of the draws; the n-th draw depends on it and n alone.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        speed: float = 1.5,
        q_min: float = 0.25,
        costs: dict[str, float] | None = None,
        warmup: int = 10,
        interval: int = 50,
        momentum: float = 0.8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if speed < 1 or not 0 < q_min <= 1:
            raise ValueError(
                'TaskSampler needs speed >= 1 and 0 < q_min <= 1, got '
                f'{speed} and {q_min}'
            )
        if costs is not None and set(costs) != set(tasks):
            raise ValueError(
                f'costs for {sorted(costs)}, but the tasks are {list(tasks)}'
            )
        if costs is not None and min(costs.values()) <= 0:
            raise ValueError(f'costs must be positive, got {costs}')
        self.tasks = tuple(tasks)
        self.speed = speed
        self.q_min = q_min
        self.fixed_costs = costs is not None
        self.warmup = warmup
        self.interval = interval
        self.momentum = momentum
        self.seed = seed
        start = [float(costs[name]) if costs else 0.0 for name in self.tasks]
        self.register_buffer('costs', torch.tensor(start))
        self.register_buffer('step', torch.tensor(0))
        self._step = HostValue()

    def draw(self, shares: Tensor) -> TaskDraw:
        """Choose the tasks of a step.

        Args:
            shares: (T,) weights z of the tasks.

        Returns:
            The tasks that run; their costs are to be measured where
            ``seconds`` is no ``None``.
        """
        step = self._step.get(self.step)
        self._step.set(self.step, step + 1)
        warm = step >= self.warmup
        measured = not warm or (step - self.warmup) % self.interval == 0
        seconds = {} if measured and not self.fixed_costs else None
        if not warm:
            return TaskDraw(dict.fromkeys(self.tasks, 1.0), seconds)
        generator = torch.Generator().manual_seed(self.seed * 1000003 + step)
        dice = torch.rand(len(self.tasks), generator=generator).tolist()
        chances = self.probabilities(shares).tolist()
        scales = {
            name: 1 / chance
            for name, chance, die in zip(
                self.tasks, chances, dice, strict=True
            )
            if die < chance
        }
        return TaskDraw(scales, seconds)

    @torch.no_grad()
    def probabilities(self, shares: Tensor) -> Tensor:
        """Probability q of each task.

        Args:
            shares: (T,) weights z of the tasks.

        Returns:
            (T,) probabilities in [q_min, 1].
        """
        costs = self.costs / self.costs.sum().clamp(min=1e-12)
        ratio = shares.float() / costs.clamp(min=1e-6)
        return (self.speed * ratio).clamp(self.q_min, 1)

    @torch.no_grad()
    def learn(self, draw: TaskDraw) -> None:
        """Take in the costs measured in a step, on all ranks."""
        if not draw.seconds:
            return
        # the same tasks ran on all ranks, so all send the same message
        times = self.costs.new_tensor(
            [draw.seconds.get(name, 0.0) for name in self.tasks]
        )
        all_reduce(times, op='mean')
        fresh = self.costs == 0
        mixed = self.costs.lerp(times, 1 - self.momentum)
        mixed = torch.where(fresh, times, mixed)
        self.costs.copy_(torch.where(times > 0, mixed, self.costs))
