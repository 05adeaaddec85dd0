"""Fast adaptive multitask optimisation, amortised over batches.

Shape shorthand: T tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmfgl.models.balancers.base import TaskBalancer
from mmfgl.registry import MODELS


@MODELS.register_module()
class FAMOBalancer(TaskBalancer):
    """Let all tasks improve at the same rate (FAMO, arXiv 2306.03792).

    With ``z = softmax(xi)`` the gradient followed is that of ``C * sum_k z_k
    log(l_k + eps)``, C (detached) the harmonic mean that keeps the factors
    ``z_k C / (l_k + eps)`` about 1 on average. As training goes, ``xi``
    moves so that the task whose loss falls slowest gains weight.

    The paper evaluates the losses of a batch once more after the step. Here
    they are compared with those of the *next* batch: no second forward pass,
    but the noise between batches is in each comparison. In ``xi`` the
    comparisons add up to the progress since the start, so that the noise
    does not. C and ``xi`` are those of the batch before, so that they do not
    depend on which tasks run in this one.

    Args:
        tasks: Names of all tasks.
        beta: Step size of ``xi``. 0 switches balancing off: all factors
            are 1, as with :class:`FixedBalancer` on comparable losses.
        gamma: Decay of ``xi`` towards equal weights.
        eps: Added to losses before their logarithm.
        **kwargs: Arguments of :class:`TaskBalancer`.
    """

    comparable = True

    def __init__(
        self,
        tasks: Sequence[str],
        beta: float = 0.025,
        gamma: float = 0.001,
        eps: float = 1e-3,
        **kwargs,
    ) -> None:
        super().__init__(tasks, **kwargs)
        if beta < 0 or gamma < 0 or eps <= 0:
            raise ValueError(
                'FAMO needs beta >= 0, gamma >= 0 and eps > 0, got '
                f'{beta}, {gamma} and {eps}'
            )
        self.beta = beta
        self.gamma = gamma
        self.eps = eps
        count = len(self.tasks)
        self.register_buffer('xi', torch.zeros(count))
        self.register_buffer('last', torch.zeros(count))
        self.register_buffer('known', torch.zeros(count, dtype=torch.bool))

    @property
    def shares(self) -> Tensor:
        """(T,) weights z of the tasks, adding up to 1."""
        return self.xi.softmax(dim=0)

    @torch.no_grad()
    def _factors(self, losses: dict[str, Tensor]) -> tuple[dict, dict]:
        values, ran = self._gather(losses)
        values = values.clamp(min=0)
        # of the batch before; of this one the first time
        before = torch.where(self.known, self.last, values)
        if self.beta == 0:
            factors = torch.ones_like(values)
        else:
            scale = len(values) / (self.shares / (before + self.eps)).sum()
            factors = scale * self.shares / (values + self.eps)
        if self.training:
            # last, so that the factors do not depend on which tasks ran
            self._learn(values, ran)
            self.last.copy_(torch.where(ran, values, self.last))
            self.known |= ran
        factors = dict(zip(self.tasks, factors.unbind(), strict=True))
        excess = dict(zip(self.tasks, values.unbind(), strict=True))
        logs = {f'excess_{name}': excess[name] for name in losses}
        return {name: factors[name] for name in losses}, logs

    def _learn(self, values: Tensor, ran: Tensor) -> None:
        """Move ``xi`` by the progress since the last batch."""
        compared = ran & self.known
        eps, shares = self.eps, self.shares
        progress = (self.last + eps).log() - (values + eps).log()  # (T,)
        # progress of a task that did not run says nothing: set to the mean
        # of the others, which leaves its xi where it is
        weight = shares * compared
        mean = (weight * progress).sum() / weight.sum().clamp(min=1e-12)
        gradient = weight * (progress - mean)
        self.xi -= self.beta * (gradient + self.gamma * self.xi)
