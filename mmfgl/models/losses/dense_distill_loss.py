"""Dense distillation: maps that point where a teacher's maps point.

Shape shorthand: B views, C teacher channels. All in fp32.
"""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.registry import MODELS


@MODELS.register_module()
class DenseDistillLoss(BaseModule):
    """1 - cosine of predicted and teacher's features, mean over positions.

    The teacher's channels are standardised over the batch first: else the
    few that are large everywhere would decide every cosine.

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
        var, mean = torch.var_mean(
            target, (0, 2, 3), correction=0, keepdim=True
        )
        target = (target - mean) / (var + 1e-6).sqrt()
        if target.shape[-2:] != pred.shape[-2:]:
            target = F.interpolate(
                target, pred.shape[-2:], mode='bilinear', antialias=True
            )
        cosine = F.cosine_similarity(pred, target, dim=1)  # (B, H, W)
        return self.loss_weight * (1 - cosine.mean())
