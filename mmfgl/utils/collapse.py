"""Statistics that show a collapse of self-distillation.

Shape shorthand: T region tokens, D token width, K prototypes.
"""

from __future__ import annotations

import math
from collections import deque

import torch
import torch.nn.functional as F
from mmengine.dist import all_reduce
from torch import Tensor


class TokenRank:
    """Effective rank of region tokens over the last batches.

    RankMe (arXiv 2210.02885): exp of the entropy of the singular values of
    the (T, D) token matrix, normalised to sum 1; it lies in [1, D]. The
    matrix is never held: its (D, D) Gram matrix is enough, and those of all
    ranks add up. The tokens' mean is taken out first: a vector that all
    tokens share says nothing about a region.

    Args:
        window: Number of batches.
    """

    def __init__(self, window: int) -> None:
        self.sums: deque[Tensor] = deque(maxlen=window)

    @torch.no_grad()
    def add(self, tokens: Tensor) -> None:
        """Add a batch of this rank.

        Args:
            tokens: (..., D) tokens.
        """
        flat = tokens.detach().float().flatten(0, -2)  # (T, D)
        ones = flat.new_ones(len(flat), 1)
        flat = torch.cat([flat, ones], dim=1).double()  # (T, D + 1)
        self.sums.append(flat.T @ flat)  # its border: sum and count

    @property
    def full(self) -> bool:
        """Whether the window is filled."""
        return len(self.sums) == self.sums.maxlen

    @torch.no_grad()
    def value(self) -> float:
        """The effective rank over all ranks' windows; a collective call."""
        sums = torch.stack(list(self.sums)).sum(dim=0)
        all_reduce(sums, op='sum')
        gram, total, count = sums[:-1, :-1], sums[-1, :-1], sums[-1, -1]
        gram = gram - torch.outer(total, total) / count
        values = torch.linalg.eigvalsh(gram.cpu()).clamp(min=0).sqrt()
        # what rounding leaves of tokens that are all the same
        noise = 1e-6 * float(sums[:-1, :-1].diagonal().sum().sqrt())
        values = values[values > noise]
        if len(values) == 0:
            return 1.0
        shares = values / values.sum()
        return math.exp(-float(torch.xlogy(shares, shares).sum()))


@torch.no_grad()
def distillation_statistics(
    logits: Tensor, targets: Tensor, chosen: Tensor, temperature: float
) -> dict[str, float]:
    """How teacher and student distributions lie; a collective call.

    Args:
        logits: (..., K) student logits.
        targets: (..., K) teacher distributions.
        chosen: (...,) bool, the tokens that the loss compares.
        temperature: Temperature of the student.

    Returns:
        All over log K: ``entropy`` of one target, ``diversity``, the entropy
        of the mean target, and ``kl`` of teacher and student. The difference
        diversity - entropy is the information that a target holds about its
        region.
    """
    flat = targets.float().flatten(0, -2)
    log_probs = F.log_softmax(logits.float() / temperature, dim=-1)
    kl = torch.xlogy(targets, targets) - targets * log_probs
    sums = torch.cat(
        [
            flat.sum(dim=0),
            flat.new_tensor([len(flat)]),
            -torch.xlogy(flat, flat).sum().view(1),
            (kl.sum(dim=-1) * chosen).sum().view(1),
            chosen.sum().float().view(1),
        ]
    ).double()
    all_reduce(sums, op='sum')
    count, entropy, divergence, compared = sums[-4:].tolist()
    mean = sums[:-4] / count
    scale = math.log(flat.shape[-1])
    return dict(
        entropy=entropy / count / scale,
        diversity=-float(torch.xlogy(mean, mean).sum()) / scale,
        kl=divergence / max(compared, 1.0) / scale,
    )
