"""How a collapse of self-distillation shows, and what to tell of it.

Shape shorthand: T region tokens, D token width.
"""

from __future__ import annotations

import math
from collections import deque

import torch
from mmengine.dist import all_reduce
from torch import Tensor

# symptom -> (what it means, what helps)
SYMPTOMS = dict(
    uniform=(
        'targets are uniform: they say nothing about their regions',
        'lower the temperature of the targets, or the learning rate',
    ),
    one_hot=(
        'targets are one-hot on few prototypes',
        "raise the temperature of the targets, or use mode='sinkhorn'",
    ),
    same=(
        'all regions get the same target',
        "use mode='sinkhorn', or let the centre follow (centre_momentum 0.9)",
    ),
    rank=(
        'region tokens fill few dimensions',
        'lower the learning rate, lengthen its warm-up, raise the momentum '
        'of the teacher',
    ),
    copied=(
        'student and teacher agree while their tokens lose rank',
        'raise the momentum of the teacher, mask more, use stronger '
        'augmentations',
    ),
)


class TokenRank:
    """Effective rank of region tokens over the last batches.

    RankMe (arXiv 2210.02885): exp of the entropy of the singular values of
    the (T, D) token matrix, normalised to sum 1; it lies in [1, D]. The
    matrix is never held: its (D, D) Gram matrix is enough, and those of all
    ranks add up. The tokens' mean is taken out first: a vector that all
    tokens share says nothing about a region. ``window`` counts batches.
    """

    def __init__(self, window: int) -> None:
        self.sums: deque[Tensor] = deque(maxlen=window)

    @torch.no_grad()
    def add(self, tokens: Tensor) -> None:
        """Add a batch of this rank, (..., D) tokens."""
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


def describe_collapse(
    since: dict[str, int], now: int, length: int, stats: dict[str, float]
) -> str:
    """What to tell of a collapse in iteration ``now``, in several lines.

    ``since`` maps each symptom to the iteration it began in; ``length`` is
    that of the run; ``stats`` are values to show.
    """
    text = (
        f'collapse, seen in iteration {now} of {length} ({now / length:.0%}):'
    )
    for name, start in since.items():
        meaning, remedy = SYMPTOMS[name]
        text += f'\n  - {name}: {meaning} (since iteration {start}). '
        text += f'To try: {remedy}'
    values = ', '.join(f'{k} {v:.3g}' for k, v in stats.items())
    return f'{text}\n  values: {values}'
