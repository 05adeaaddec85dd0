"""Diversity: keeps the student from using only a few prototypes.

Shape shorthand: T region tokens of the batch, K prototypes. All in fp32.
"""

import math

from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionDiversityLoss(BaseModule):
    """How far the student's mean distribution falls below an entropy floor.

    ``max(0, floor - H(mean p) / log K)``, with the mean over the tokens of
    all ranks: zero, and without gradient, as long as the prototypes are used
    evenly enough.

    Args:
        floor: Least entropy of the mean distribution over log K, in (0, 1].
        temperature: Student temperature.
        loss_weight: Weight of the loss.
    """

    def __init__(
        self,
        floor: float = 0.8,
        temperature: float = 0.1,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 < floor <= 1:
            raise ValueError(f'floor must lie in (0, 1], got {floor}')
        self.floor = floor
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor) -> Tensor:
        """Loss of the student's logits.

        Args:
            logits: (..., K) student logits, equally many on each rank.

        Returns:
            Scalar fp32 loss.
        """
        probs = (logits.float() / self.temperature).softmax(dim=-1)
        mean = probs.flatten(0, -2).mean(dim=0)  # (K,)
        # Every rank takes the global mean, with the gradient of its own
        # share as if it were the whole: data-parallel training then averages
        # over the ranks, which gives the gradient of the global loss.
        reduced = mean.detach().clone()
        all_reduce(reduced, op='mean')
        mean = mean + (reduced - mean.detach())
        mean = mean.clamp(min=1e-12)
        entropy = -(mean * mean.log()).sum() / math.log(mean.numel())
        return self.loss_weight * (self.floor - entropy).clamp(min=0)
