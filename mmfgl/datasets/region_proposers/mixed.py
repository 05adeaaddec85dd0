"""Mixture of region proposers."""

from collections.abc import Sequence

import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class MixedRegions(RegionProposer):
    """Boxes of several proposers, taken in turn.

    Any first few of them hold equally many of each; where one proposer runs
    out of boxes, the others go on. Each gives its own pseudo-labels.

    Args:
        proposers: Configs of the proposers.
    """

    def __init__(self, proposers: Sequence[dict]) -> None:
        if not proposers:
            raise ValueError('proposers is empty: give at least one')
        self.proposers = [TASK_UTILS.build(config) for config in proposers]

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """(N, 4) boxes; see :class:`RegionProposer`."""
        return self.propose_rows(info, rng)[0]

    def propose_rows(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, pseudo-labels and rows; see :class:`RegionProposer`."""
        parts = [p.propose_rows(info, rng) for p in self.proposers]
        turns = np.concatenate([np.arange(len(part[0])) for part in parts])
        order = np.argsort(turns, kind='stable')
        boxes, labels, rows = (
            np.concatenate(p)[order] for p in zip(*parts, strict=True)
        )
        return boxes.astype(np.float32), labels, rows

    def check_images(self, paths: Sequence[str]) -> None:
        """Ask each of them; see :class:`RegionProposer`."""
        for proposer in self.proposers:
            proposer.check_images(paths)
