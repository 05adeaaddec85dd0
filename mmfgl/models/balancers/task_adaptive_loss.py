"""Task Adaptive Loss: accuracy, stability, diversity and speed.

Shape shorthand: T tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmfgl.models.balancers.base import TaskDraw, TaskLoss
from mmfgl.models.balancers.famo import FAMOBalancer
from mmfgl.models.balancers.task_sampler import TaskSampler
from mmfgl.registry import MODELS


@MODELS.register_module()
class TaskAdaptiveLoss(FAMOBalancer):
    """Balance tasks by how their training goes, over four aspects.

    - *accuracy*: FAMO over excess losses, see :class:`FAMOBalancer`;
    - *stability*: the gate ``clip(1 / (1 + kappa * CoV_k), LEAST_GATE, 1)``
      with CoV_k the running coefficient of variation of loss k turns a noisy
      task down;
    - *diversity*: the diversity task is unbalanced: below the entropy floor
      it has its full weight, whatever the other tasks do, above it is zero;
    - *speed*: losses are computed with a probability that rises with their
      weight and falls with their cost, see :class:`TaskSampler`; off unless
      ``speed`` is given.

    Args:
        tasks: Names of all tasks.
        kappa: Strength of the gate; 0 opens it.
        momentum: Share of the old mean and variance that is kept.
        speed: Arguments of :class:`TaskSampler` as a dict, or ``None`` to
            compute every loss in every step.
        **kwargs: Arguments of :class:`FAMOBalancer`.

    Raises:
        ValueError: If a number is out of range.
    """

    LEAST_GATE = 0.5

    def __init__(
        self,
        tasks: Sequence[str],
        kappa: float = 1.0,
        momentum: float = 0.95,
        speed: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(tasks, **kwargs)
        if kappa < 0 or not 0 <= momentum < 1:
            raise ValueError(
                'TaskAdaptiveLoss needs kappa >= 0 and 0 <= momentum < 1, got '
                f'{kappa} and {momentum}'
            )
        self.kappa = kappa
        self.momentum = momentum
        self.sampler = (
            None if speed is None else TaskSampler(self.tasks, **speed)
        )
        count = len(self.tasks)
        self.register_buffer('mean', torch.zeros(count))
        self.register_buffer('variance', torch.zeros(count))

    def draw(self) -> TaskDraw:
        """Choose whose losses are computed; unbalanced ones always are."""
        if self.sampler is None or not self.training:
            return super().draw()
        draw = self.sampler.draw(self.shares)
        draw.scales.update(dict.fromkeys(self.unbalanced, 1.0))
        return draw

    def forward(
        self, losses: dict[str, TaskLoss], draw: TaskDraw | None = None
    ) -> dict[str, Tensor]:
        """Weigh losses, see :meth:`TaskBalancer.forward`.

        It also logs ``gate_``, ``skip_``, ``cost_`` and ``floor_<task>``.
        """
        out = super().forward(losses, draw)
        for name in self.unbalanced:
            if name in losses:
                out[f'floor_{name}'] = (losses[name].value > 0).float()
        if self.sampler is not None:
            if draw is not None:
                self.sampler.learn(draw)
            costs = self.sampler.costs.clone().unbind()
            for name, cost in zip(self.tasks, costs, strict=True):
                out[f'skip_{name}'] = torch.tensor(float(name not in losses))
                out[f'cost_{name}'] = cost
        return out

    @property
    def gates(self) -> Tensor:
        """(T,) gates of the tasks in [LEAST_GATE, 1]."""
        variation = self.variance.sqrt() / (self.mean + self.eps)
        return (1 / (1 + self.kappa * variation)).clamp(self.LEAST_GATE, 1)

    @torch.no_grad()
    def _factors(self, losses: dict[str, Tensor]) -> tuple[dict, dict]:
        # gates of the batches before, which do not depend on what ran now
        gates = dict(zip(self.tasks, self.gates.unbind(), strict=True))
        factors, logs = super()._factors(losses)
        for name in factors:
            logs[f'gate_{name}'] = gates[name]
            factors[name] = gates[name] * factors[name]
        return factors, logs

    def _learn(self, values: Tensor, ran: Tensor) -> None:
        """Move ``xi``, and the running mean and variance of each loss."""
        super()._learn(values, ran)
        mean = torch.where(self.known, self.mean, values)
        step = values - mean
        keep = self.momentum
        variance = keep * (self.variance + (1 - keep) * step.square())
        mean = mean + (1 - keep) * step
        self.mean.copy_(torch.where(ran, mean, self.mean))
        self.variance.copy_(torch.where(ran, variance, self.variance))
