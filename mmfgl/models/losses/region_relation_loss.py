"""Region relations: tokens as alike to each other as a teacher finds them.

Shape shorthand: T region tokens of this rank, N of all ranks, D token width, E
embedding width. In fp32.
"""

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.models.losses.region_embedding_loss import global_mean
from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionRelationLoss(BaseModule):
    """Kullback-Leibler divergence of soft neighbours, mean over tokens.

    Each token of the batch takes a softmax over its cosines to all *other*
    tokens, those of all ranks; the student's is drawn to the teacher's
    (relational distillation, after SEED, arXiv 2101.04731, with the batch in
    place of a queue). Every rank holds two (T, N) matrices.

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
        # temperatures magnify rounding, so no autocast here
        with torch.autocast(tokens.device.type, enabled=False):
            own = [F.normalize(x.float(), dim=1) for x in (tokens, target)]
            both, start = of_all_ranks(torch.cat(own, dim=1))
            every = both.split([x.shape[1] for x in own], dim=1)
            if len(both) < 2:
                # it takes part in the count of all ranks, as a token that fits
                return self.loss_weight * global_mean(own[0].sum(dim=1) * 0)
            itself = torch.arange(len(tokens), device=tokens.device) + start
            logs, target_logs = (
                self._log_neighbours(x @ all_x.T, itself)
                for x, all_x in zip(own, every, strict=True)
            )
            divergence = target_logs.exp() * (target_logs - logs)
            return self.loss_weight * global_mean(divergence.sum(dim=1))

    def _log_neighbours(self, cosines: Tensor, itself: Tensor) -> Tensor:
        """(T, N - 1) log-probabilities of the others from (T, N) cosines."""
        shape = len(cosines), cosines.shape[1] - 1
        others = torch.arange(cosines.shape[1], device=cosines.device)
        cosines = cosines[others != itself[:, None]].view(shape)
        return F.log_softmax(cosines / self.temperature, dim=1)


def of_all_ranks(x: Tensor) -> tuple[Tensor, int]:
    """Rows of all ranks, with their gradients, and where one's own start.

    Args:
        x: (T, C) rows of this rank; other ranks may have other numbers.

    Returns:
        (N, C) rows, rank by rank, and the number of those before.
    """
    if get_world_size() == 1:
        return x, 0
    from torch.distributed.nn.functional import all_gather as gather

    counts = torch.stack(all_gather(torch.tensor(len(x), device=x.device)))
    counts = counts.tolist()
    parts = gather(F.pad(x, (0, 0, 0, max(counts) - len(x))))
    rows = [part[:num] for part, num in zip(parts, counts, strict=True)]
    return torch.cat(rows), sum(counts[: get_rank()])
