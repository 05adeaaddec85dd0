"""Mixture of region proposers."""

from collections.abc import Sequence

import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class MixedRegions(RegionProposer):
    """Boxes of several proposers, in given shares.

    The boxes are interleaved, so that any first few of them hold the shares;
    where one proposer runs out of boxes, the others go on.

    Args:
        proposers: Configs of the proposers.
        shares: Share of each, in any unit; equal shares by default.
        max_regions: Largest number of boxes, ``None`` for all.
    """

    def __init__(
        self,
        proposers: Sequence[dict],
        shares: Sequence[float] | None = None,
        max_regions: int | None = None,
    ) -> None:
        if not proposers:
            raise ValueError('proposers is empty: give at least one')
        shares = [1.0] * len(proposers) if shares is None else list(shares)
        if len(shares) != len(proposers) or min(shares) <= 0:
            raise ValueError(
                f'shares must hold one positive number for each of the '
                f'{len(proposers)} proposers, got {shares}'
            )
        if max_regions is not None and max_regions < 1:
            raise ValueError(f'max_regions must be >= 1, got {max_regions}')
        self.proposers = [TASK_UTILS.build(config) for config in proposers]
        self.shares = shares
        self.max_regions = max_regions

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Boxes of all proposers; see :class:`RegionProposer`.

        Args:
            info: Image facts that the proposers need.
            rng: Source of randomness for the proposers.

        Returns:
            (N, 4) float32 boxes in image pixels.
        """
        return self.propose_labelled(info, rng)[0]

    def propose_labelled(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and pseudo-labels, each proposer's own labels.

        Args:
            info: Image facts that the proposers need.
            rng: Source of randomness for the proposers.

        Returns:
            (N, 4) float32 boxes in image pixels and (N,) int64 labels.
        """
        parts = [p.propose_labelled(info, rng) for p in self.proposers]
        turns = np.concatenate(
            [
                (np.arange(len(boxes)) + 0.5) / share
                for (boxes, _), share in zip(parts, self.shares, strict=True)
            ]
        )
        order = np.argsort(turns, kind='stable')[: self.max_regions]
        boxes, labels = (np.concatenate(p) for p in zip(*parts, strict=True))
        return boxes[order].astype(np.float32), labels[order]
