"""Region relations: tokens as alike to each other as a teacher finds them.

Shape shorthand: T region tokens of this rank, D token width, E embedding
width. In fp32.
"""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.models.losses.region_embedding_loss import global_mean
from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionRelationLoss(BaseModule):
    """Kullback-Leibler divergence of soft neighbours, mean over tokens.

    Each token of the batch takes a softmax over its cosines to all *other*
    tokens; the student's is drawn to the teacher's (relational distillation,
    after SEED, arXiv 2101.04731, with the batch in place of a queue). Tokens
    are compared on one rank only: no token is sent to another.

    Args:
        temperature: Divides the cosines, of both.
        loss_weight: Weight of the loss.

    Raises:
        ValueError: If ``temperature`` is not above 0.
    """

    def __init__(
        self, temperature: float = 0.07, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be > 0, got {temperature}')
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, tokens: Tensor, target: Tensor) -> Tensor:
        """Mean over the tokens of all ranks, as this rank's part of it.

        Args:
            tokens: (T, D) tokens of the student.
            target: (T, E) embeddings of the teacher, same regions.

        Returns:
            Scalar fp32 loss; 0 (with a graph) of fewer than two tokens.
        """
        count = len(tokens)
        if count < 2:
            # it takes part in the count of all ranks, as tokens that fit
            return self.loss_weight * global_mean(tokens.float().sum(1) * 0)
        others = ~torch.eye(count, dtype=torch.bool, device=tokens.device)
        logs, target_logs = (
            self._log_neighbours(x, others) for x in (tokens, target)
        )
        divergence = target_logs.exp() * (target_logs - logs)
        return self.loss_weight * global_mean(divergence.sum(dim=1))

    def _log_neighbours(self, x: Tensor, others: Tensor) -> Tensor:
        """(T, T - 1) log-probabilities of the other tokens."""
        # temperatures magnify rounding, so no autocast here
        with torch.autocast(x.device.type, enabled=False):
            x = F.normalize(x.float(), dim=1)
            cosines = (x @ x.T)[others].view(len(x), -1)
            return F.log_softmax(cosines / self.temperature, dim=1)
