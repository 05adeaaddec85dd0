"""Region embedding: predictions that point where a teacher's embeddings do.

Shape shorthand: T region tokens of this rank, E embedding width. In fp32.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionEmbeddingLoss(BaseModule):
    """1 - cosine of predicted and teacher's embedding, mean over tokens.

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Mean over the tokens of all ranks, as this rank's part of it.

        Args:
            pred: (T, E) predictions; T may be 0 and differ between ranks.
            target: (T, E) embeddings of the teacher.

        Returns:
            Scalar fp32 loss, ``loss_weight`` for an uninformed guess; 0 (with
            a graph) without tokens.
        """
        cosine = F.cosine_similarity(pred.float(), target.float(), dim=-1)
        return self.loss_weight * global_mean(1 - cosine)


def global_mean(values: Tensor, chosen: Tensor | None = None) -> Tensor:
    """Mean of the values of all ranks, as this rank's part of it.

    The sum is divided by the global count, so that every value weighs the
    same on however many ranks they lie.

    Args:
        values: (T,) of this rank; T may be 0.
        chosen: Which of them count, bool of the same shape; all by default.

    Returns:
        Scalar; its mean over the ranks is the global mean, 0 of no value.
    """
    if chosen is None:
        chosen = torch.ones_like(values, dtype=torch.bool)
    values, count = values * chosen, chosen.sum().float()
    all_reduce(count, op='sum')
    return values.sum() * get_world_size() / count.clamp(min=1)
