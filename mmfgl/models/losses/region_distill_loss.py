"""Region distillation: targets of the teacher, cross-entropy of the student.

Shape shorthand: T region tokens of the batch, K prototypes. All in fp32.
"""

import math

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.models.losses.region_embedding_loss import global_mean
from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionTargets(BaseModule):
    """Turn teacher logits into target distributions that do not collapse.

    ``'centring'`` subtracts a running mean of the logits and sharpens (DINO,
    arXiv 2104.14294); ``'sinkhorn'`` balances the batch over the prototypes
    (SwAV, arXiv 2006.09882). Both see the whole distributed batch.

    Args:
        num_prototypes: Number of prototypes K.
        mode: ``'centring'`` or ``'sinkhorn'``.
        temperature: Teacher temperature; low values sharpen.
        centre_momentum: Share of the old centre that is kept at each batch.
    """

    SINKHORN_ITERS = 3

    def __init__(
        self,
        num_prototypes: int,
        mode: str = 'sinkhorn',
        temperature: float = 0.05,
        centre_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        if mode not in ('centring', 'sinkhorn'):
            raise ValueError(
                f"mode must be 'centring' or 'sinkhorn', got {mode!r}"
            )
        self.mode = mode
        self.temperature = temperature
        self.centre_momentum = centre_momentum
        self.register_buffer('centre', torch.zeros(num_prototypes))

    @torch.no_grad()
    def forward(self, logits: Tensor) -> Tensor:
        """Target distributions of region tokens.

        In training, ``'centring'`` then moves its centre by this batch.

        Args:
            logits: (..., K) teacher logits.

        Returns:
            (..., K) fp32 distributions.
        """
        flat = logits.float().flatten(0, -2)  # (T, K)
        if self.mode == 'sinkhorn':
            return self._sinkhorn(flat).view(logits.shape)
        targets = ((flat - self.centre) / self.temperature).softmax(dim=-1)
        if self.training:
            mean = flat.mean(dim=0)
            all_reduce(mean, op='mean')
            self.centre.lerp_(mean, 1 - self.centre_momentum)
        return targets.view(logits.shape)

    def _sinkhorn(self, logits: Tensor) -> Tensor:
        """(T, K) logits -> (T, K) distributions with balanced columns."""
        # in log space: at low temperatures a token (or prototype) far from
        # all others would underflow to a row (or column) of zeros
        plan = logits / self.temperature
        for _ in range(self.SINKHORN_ITERS):
            peak = plan.amax(dim=0)
            all_reduce(peak, op='max')
            columns = (plan - peak).exp().sum(dim=0)
            all_reduce(columns, op='sum')
            plan = (plan - peak - columns.log()).log_softmax(dim=1)
        return plan.exp()


@MODELS.register_module()
class RegionDistillLoss(BaseModule):
    """Cross-entropy between teacher and student over prototypes.

    Args:
        temperature: Student temperature.
        loss_weight: Weight of the loss.
    """

    def __init__(
        self, temperature: float = 0.1, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(
        self, logits: Tensor, targets: Tensor, chosen: Tensor
    ) -> Tensor:
        """Mean cross-entropy over the chosen tokens of all ranks.

        The sum is divided by the global count of chosen tokens, so that every
        token weighs the same on however many GPUs they lie.

        Args:
            logits: (..., K) student logits.
            targets: (..., K) teacher distributions, fp32.
            chosen: (...,) bool, the tokens that count.

        Returns:
            Scalar fp32 loss; 0 (with a graph) where no token is chosen.
        """
        log_probs = F.log_softmax(logits.float() / self.temperature, dim=-1)
        losses = -(targets * log_probs).sum(dim=-1)
        return self.loss_weight * global_mean(losses, chosen)

    @torch.no_grad()
    def floor(self, targets: Tensor, chosen: Tensor) -> Tensor:
        """Least value of the loss: the entropy of the targets.

        Args:
            targets: (..., K) teacher distributions, fp32.
            chosen: (...,) bool, the tokens that count.

        Returns:
            Scalar; the loss minus it is a Kullback-Leibler divergence.
        """
        entropies = -torch.xlogy(targets, targets).sum(dim=-1)
        return self.loss_weight * global_mean(entropies, chosen)


@torch.no_grad()
def target_statistics(targets: Tensor) -> dict[str, Tensor]:
    """How sharp and how diverse target distributions are.

    Args:
        targets: (..., K) distributions.

    Returns:
        ``teacher_entropy``, the mean entropy of one token's distribution, and
        ``teacher_diversity``, the entropy of their mean; both over log K, in
        [0, 1]. Entropy near 1, or diversity near 0, is a collapse.
    """
    flat = targets.float().flatten(0, -2)
    scale = math.log(flat.shape[-1])
    entropy = -torch.xlogy(flat, flat).sum(dim=-1).mean() / scale
    mean = flat.mean(dim=0)
    diversity = -torch.xlogy(mean, mean).sum() / scale
    return dict(teacher_entropy=entropy, teacher_diversity=diversity)
