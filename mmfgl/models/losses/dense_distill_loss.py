"""Dense distillation: maps that point where a teacher's maps point.

Shape shorthand: W ranks, B views of each, C teacher channels. All in fp32.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.registry import MODELS


@MODELS.register_module()
class DenseDistillLoss(BaseModule):
    """1 - cosine of predicted and teacher's features, mean over positions.

    The teacher's channels are standardised over the batch of all ranks
    first: else the few that are large everywhere would decide every cosine.

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Loss of one map.

        Args:
            pred: (B, C, H, W) predicted features.
            target: (B, C, H', W') features of the teacher, resized to the
                size of ``pred``.

        Returns:
            Scalar fp32 loss, ``loss_weight`` for an uninformed guess.
        """
        target, pred = target.float(), pred.float()
        mean, var = _global_moments(target)
        target = (target - mean) / (var + 1e-6).sqrt()
        if target.shape[-2:] != pred.shape[-2:]:
            target = F.interpolate(
                target, pred.shape[-2:], mode='bilinear', antialias=True
            )
        cosine = F.cosine_similarity(pred, target, dim=1)  # (B, H, W)
        return self.loss_weight * (1 - cosine.mean())


@torch.no_grad()
def _global_moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the batch of all ranks, each (1, C, 1, 1).

    Args:
        maps: (B, C, H, W) of this rank, of the same size on all.
    """
    own = torch.var_mean(maps, (0, 2, 3), correction=0, keepdim=True)
    variances, means = torch.stack(all_gather(torch.stack(own)), 1)  # W first
    spread = means.var(0, correction=0)  # between the ranks, 0 on one
    return means.mean(0), variances.mean(0) + spread
