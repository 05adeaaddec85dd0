"""What every balancer of several losses has in common.

Shape shorthand: T tasks, in the order they are given.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor


@dataclass
class TaskLoss:
    """The loss of one task, with what makes it comparable to others.

    Attributes:
        terms: Scalar losses by name; the task's loss is their sum.
        floor: Least value that the sum can take, without gradient, e.g. the
            teacher's entropy under a cross-entropy.
        unit: What counts as 1, e.g. log K of a cross-entropy.
    """

    terms: dict[str, Tensor]
    floor: Tensor | float = 0.0
    unit: float = 1.0

    def value(self, comparable: bool) -> Tensor:
        """The loss of the task.

        Args:
            comparable: Take off the floor and divide by the unit.

        Returns:
            Scalar with a gradient.
        """
        total = sum(self.terms.values())
        return (total - self.floor) / self.unit if comparable else total


class TaskBalancer(BaseModule):
    """Base of the balancers: a factor for the loss of each task.

    One training step calls :meth:`draw` (which tasks run), then
    :meth:`factors` with the losses of those that ran; a balancer learns from
    them there, inside the forward pass, so there is nothing to call after
    the optimizer's step and nothing to forget. All state is buffers or
    parameters, equal on all ranks.

    Hinged tasks are not balanced, because their loss is zero most of the
    time and no measure of progress: they keep their fixed weight.

    Args:
        tasks: Names of all tasks.
        weights: Fixed weights by name, multiplied with the factor that the
            balancer finds; 1 where not given.
        hinged: Names of tasks with a hinged loss; those that are not among
            ``tasks`` are ignored.
        init_cfg: Initialisation config of MMEngine.

    Raises:
        ValueError: If a task appears twice or a weight belongs to none.
    """

    #: Whether :meth:`factors` wants comparable excess losses.
    comparable = False

    def __init__(
        self,
        tasks: Sequence[str],
        weights: dict[str, float] | None = None,
        hinged: Sequence[str] = ('diversity',),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        weights = dict(weights or {})
        if len(set(tasks)) != len(tasks):
            raise ValueError(f'tasks must differ, got {list(tasks)}')
        if not set(weights) <= set(tasks):
            raise ValueError(
                f'weights for {sorted(set(weights) - set(tasks))}, but the '
                f'tasks are {list(tasks)}'
            )
        self.hinged = tuple(name for name in tasks if name in hinged)
        self.tasks = tuple(name for name in tasks if name not in hinged)
        self.weights = {name: weights.get(name, 1.0) for name in tasks}
        self._statistics: dict[str, Tensor] = {}

    def draw(self) -> dict[str, float]:
        """Choose the tasks of this step; the same on all ranks.

        Returns:
            Scale 1 / q of every task that runs, q being its probability.
        """
        return dict.fromkeys((*self.tasks, *self.hinged), 1.0)

    @contextmanager
    def measure(self, *names: str) -> Iterator[None]:
        """Measure the cost of tasks: the time spent inside; may do nothing.

        Args:
            *names: Tasks that share the cost.
        """
        yield

    def factors(self, losses: dict[str, Tensor]) -> dict[str, Tensor | float]:
        """Factors of the losses of the tasks that ran.

        Args:
            losses: Scalar losses by task.

        Returns:
            One factor a task, without gradient unless the balancer learns by
            gradient.
        """
        balanced = {k: v for k, v in losses.items() if k not in self.hinged}
        self._statistics = {}
        factors = self._factors(balanced) if balanced else {}
        for name in losses:
            factor = factors[name] if name in balanced else 1.0
            factors[name] = self.weights[name] * factor
            self._log(f'weight_{name}', factors[name])
        return factors

    def forward(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weighted terms; the gradient of their sum is the one to follow.

        Args:
            losses: Scalar losses by task.

        Returns:
            One term a task and the balancer's own, see :meth:`penalty`.
        """
        factors = self.factors(losses)
        terms = {name: factors[name] * loss for name, loss in losses.items()}
        return {**terms, **self.penalty()}

    def penalty(self) -> dict[str, Tensor]:
        """Terms of the balancer itself, to be added to the losses."""
        return {}

    def statistics(self) -> dict[str, Tensor]:
        """Weights and aspects of the last step, to be logged."""
        return dict(self._statistics)

    def _factors(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Factors of the tasks that are not hinged."""
        raise NotImplementedError

    def _log(self, key: str, value: Tensor | float) -> None:
        """Keep a scalar for :meth:`statistics`."""
        self._statistics[key] = torch.as_tensor(value).detach().clone()

    @torch.no_grad()
    def _gather(self, losses: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Mean losses over all ranks, in one message.

        Returns:
            - (T,) fp32 losses, 0 for tasks that did not run.
            - (T,) bool, which ran.
        """
        some = next(iter(losses.values())).detach().float()
        zero = some.new_zeros(())
        values = torch.stack(
            [losses.get(name, zero).detach().float() for name in self.tasks]
        )
        all_reduce(values, op='mean')
        ran = [name in losses for name in self.tasks]
        return values, torch.tensor(ran, device=values.device)
