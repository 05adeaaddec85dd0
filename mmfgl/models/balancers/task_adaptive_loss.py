"""Task Adaptive Loss: accuracy, stability, diversity and speed.

Shape shorthand: T tasks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from mmfgl.models.balancers.famo import FAMOBalancer
from mmfgl.models.balancers.task_sampler import TaskSampler
from mmfgl.registry import MODELS


@MODELS.register_module()
class TaskAdaptiveLoss(FAMOBalancer):
    """Balance tasks by how their training goes, over four aspects.

    - *accuracy*: FAMO over comparable excess losses, see
      :class:`FAMOBalancer`;
    - *stability*: the gate ``clip(1 / (1 + kappa * CoV_k), least_gate, 1)``
      with CoV_k the running coefficient of variation of loss k turns a noisy
      task down;
    - *diversity*: hinged tasks, the diversity term, are not balanced: below
      the entropy floor the term has its full weight, whatever the other
      tasks do, above it is zero;
    - *speed*: tasks run with a probability that rises with their weight and
      falls with their cost, see :class:`TaskSampler`; off unless ``speed``
      is given.

    Args:
        tasks: Names of all tasks.
        kappa: Strength of the gate; 0 opens it.
        least_gate: Least value of the gate, in (0, 1].
        momentum: Share of the old mean and variance that is kept.
        speed: Arguments of :class:`TaskSampler` as a dict, or ``None`` to
            run every task in every step.
        **kwargs: Arguments of :class:`FAMOBalancer`.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        kappa: float = 1.0,
        least_gate: float = 0.5,
        momentum: float = 0.95,
        speed: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(tasks, **kwargs)
        if kappa < 0 or not 0 < least_gate <= 1 or not 0 <= momentum < 1:
            raise ValueError(
                'TaskAdaptiveLoss needs kappa >= 0, 0 < least_gate <= 1 and '
                f'0 <= momentum < 1, got {kappa}, {least_gate}, {momentum}'
            )
        self.kappa = kappa
        self.least_gate = least_gate
        self.momentum = momentum
        self.sampler = (
            None if speed is None else TaskSampler(self.tasks, **speed)
        )
        count = len(self.tasks)
        self.register_buffer('mean', torch.zeros(count))
        self.register_buffer('variance', torch.zeros(count))
        self._scales = dict.fromkeys(self.tasks, 1.0)

    def draw(self) -> dict[str, float]:
        """Choose the tasks of this step; the same on all ranks.

        Returns:
            Scale 1 / q of every task that runs, hinged ones always.
        """
        self._scales = dict.fromkeys(self.tasks, 1.0)
        if self.sampler is not None and self.training:
            self._scales = self.sampler.draw(self.shares)
        return {**self._scales, **dict.fromkeys(self.hinged, 1.0)}

    @contextmanager
    def measure(self, *names: str) -> Iterator[None]:
        """Measure the cost of tasks: the time spent inside.

        Args:
            *names: Tasks that share the cost.
        """
        if self.sampler is None:
            yield
        else:
            with self.sampler.measure(names):
                yield

    def factors(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Factors of the losses of the tasks that ran, 1/q included.

        Args:
            losses: Comparable excess losses by task.

        Returns:
            One factor a task.
        """
        factors = super().factors(losses)
        for name in self.hinged:
            if name in losses:
                self._log(f'floor_{name}', (losses[name] > 0).float())
        if self.sampler is not None:
            self.sampler.learn()
            costs = self.sampler.costs.unbind()
            for name, cost in zip(self.tasks, costs, strict=True):
                self._log(f'skip_{name}', float(name not in losses))
                self._log(f'cost_{name}', cost)
        return {
            name: factor * self._scales.get(name, 1.0)
            for name, factor in factors.items()
        }

    @property
    def gates(self) -> Tensor:
        """(T,) gates of the tasks in [least_gate, 1]."""
        variation = self.variance.sqrt() / (self.mean + self.eps)
        return (1 / (1 + self.kappa * variation)).clamp(self.least_gate, 1)

    @torch.no_grad()
    def _factors(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        # gates of the batches before, which do not depend on what ran now
        gates = dict(zip(self.tasks, self.gates.unbind(), strict=True))
        factors = super()._factors(losses)
        for name in factors:
            self._log(f'gate_{name}', gates[name])
        return {name: gates[name] * factors[name] for name in factors}

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
