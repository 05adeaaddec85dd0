"""What every balancer of several losses has in common.

Shape shorthand: T tasks, in the order they are given.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor


@dataclass
class TaskLoss:
    """The loss of one task, with what makes it comparable to others.

    Attributes:
        value: Scalar fp32 loss with a gradient.
        floor: Least value that it can take, without gradient, e.g. the
            teacher's entropy under a cross-entropy.
        loss_scale: Value of an uninformed guess above the floor, e.g. log K
            of a cross-entropy over K prototypes, times the loss weight.
        logs: Scalars to log; no name holds 'loss', which would add them to
            the total.
    """

    value: Tensor
    floor: Tensor | float = 0.0
    loss_scale: float = 1.0
    logs: dict[str, Tensor] = field(default_factory=dict)

    @property
    def excess(self) -> Tensor:
        """The loss above its floor, over its scale."""
        return (self.value - self.floor) / self.loss_scale


@dataclass
class TaskDraw:
    """The tasks of one step.

    Attributes:
        scales: 1 / q of every task whose loss is computed, q being its
            probability.
        seconds: Measured cost by task, or ``None`` where it is not measured.
    """

    scales: dict[str, float]
    seconds: dict[str, float] | None = None

    @contextmanager
    def measure(self, *names: str) -> Iterator[None]:
        """Add the time spent inside to the cost of tasks, in equal parts.

        Args:
            *names: Tasks that share the cost.
        """
        if self.seconds is None or not names:
            yield
            return
        _wait_for_device()
        start = time.perf_counter()
        yield
        _wait_for_device()
        share = (time.perf_counter() - start) / len(names)
        for name in names:
            self.seconds[name] = self.seconds.get(name, 0.0) + share


class TaskBalancer(BaseModule):
    """Base of the balancers: a factor for the loss of each task.

    A training step calls :meth:`draw` (whose losses are computed), then the
    balancer itself with those losses; it learns from them there, inside the
    forward pass, so there is nothing to call after the optimizer's step. All
    state is buffers or parameters, equal on all ranks.

    Tasks in ``UNBALANCED`` keep their fixed weight: their loss is zero most of
    the time (a hinge) and no measure of progress.

    Args:
        tasks: Names of all tasks.
        weights: Fixed weights by name, multiplied with the factor that the
            balancer finds; 1 where not given.

    Raises:
        ValueError: If a task appears twice or a weight belongs to none.
    """

    UNBALANCED = ('diversity',)
    #: Whether losses are balanced as excess over their floor and scale.
    comparable = False

    def __init__(
        self,
        tasks: Sequence[str],
        weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        weights = dict(weights or {})
        if len(set(tasks)) != len(tasks):
            raise ValueError(f'tasks must differ, got {list(tasks)}')
        if not set(weights) <= set(tasks):
            raise ValueError(
                f'weights for {sorted(set(weights) - set(tasks))}, but the '
                f'tasks are {list(tasks)}'
            )
        kept = self.UNBALANCED
        self.unbalanced = tuple(name for name in tasks if name in kept)
        self.tasks = tuple(name for name in tasks if name not in kept)
        self.weights = {name: weights.get(name, 1.0) for name in tasks}

    def draw(self) -> TaskDraw:
        """Choose whose losses are computed; the same on all ranks."""
        return TaskDraw(dict.fromkeys((*self.tasks, *self.unbalanced), 1.0))

    def forward(
        self, losses: dict[str, TaskLoss], draw: TaskDraw | None = None
    ) -> dict[str, Tensor]:
        """Weigh losses; the gradient of their sum is the one to follow.

        Args:
            losses: Losses of the tasks that were drawn.
            draw: The draw; by default every task counts once.

        Returns:
            ``loss_<task>`` of each task, the balancer's own losses, what the
            tasks log and, unless it is fixed, ``weight_<task>``.
        """
        balanced = {
            name: loss.excess if self.comparable else loss.value
            for name, loss in losses.items()
            if name in self.tasks
        }
        factors, logs = self._factors(balanced) if balanced else ({}, {})
        out: dict[str, Tensor] = {}
        for name, loss in losses.items():
            factor = factors.get(name, 1.0) * self.weights[name]
            if isinstance(factor, Tensor):
                logs[f'weight_{name}'] = factor.detach().clone()
            if draw is not None:
                factor = factor * draw.scales[name]
            if self.comparable:
                factor = factor / loss.loss_scale
            out[f'loss_{name}'] = loss.value * factor
            out.update(loss.logs)
        out.update(self._own_losses())
        out.update(logs)
        return out

    def _factors(
        self, losses: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Factors of balanced tasks, and what to log about them.

        Args:
            losses: Scalar losses (excess, if ``comparable``) by task.
        """
        raise NotImplementedError

    def _own_losses(self) -> dict[str, Tensor]:
        """Losses of the balancer itself."""
        return {}

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
        # filled in on the device: a list of Python would be copied there
        ran = torch.ones_like(values, dtype=torch.bool)
        for index, name in enumerate(self.tasks):
            if name not in losses:
                ran[index].fill_(False)
        return values, ran


def _wait_for_device() -> None:
    """Wait for the work that is queued on the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
