"""Multi-scale grid of squares."""

from collections.abc import Sequence

import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class GridRegions(RegionProposer):
    """Cut the image into squares of several sizes.

    A cell never exceeds the image's shorter side: on smaller images the size
    is that side. Cells of one size start every ``stride`` cells; the last row
    and column end at the image's border.

    Args:
        cell_sizes: Sides of the squares in pixels of the image.
        stride: Step from one square to the next as a share of its side, in
            (0, 1]; below 1 squares overlap.
    """

    def __init__(
        self, cell_sizes: Sequence[int] = (112, 224, 448), stride: float = 0.5
    ) -> None:
        if not cell_sizes or min(cell_sizes) < 1:
            raise ValueError(f'cell_sizes must be positive, got {cell_sizes}')
        if not 0 < stride <= 1:
            raise ValueError(f'stride must lie in (0, 1], got {stride}')
        self.cell_sizes = tuple(cell_sizes)
        self.stride = stride

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """All squares of the grid; see :class:`RegionProposer`.

        With ``rng`` the order of the squares is shuffled, so that taking the
        first few of them samples the grid.

        Args:
            info: Image facts with ``img_shape``.
            rng: Source of randomness for the order.

        Returns:
            (N, 4) float32 boxes in image pixels.
        """
        height, width = info['img_shape'][:2]
        shorter = min(height, width)
        sizes = sorted({min(size, shorter) for size in self.cell_sizes})
        boxes = np.concatenate(
            [self._cells(size, height, width) for size in sizes]
        )
        if rng is not None:
            boxes = rng.permutation(boxes)
        return boxes

    def _cells(self, size: int, height: int, width: int) -> np.ndarray:
        """(M, 4) squares of one size."""
        step = max(1, round(size * self.stride))
        starts = []
        for side in (width, height):
            count = int(np.ceil((side - size) / step)) + 1
            starts.append(np.minimum(np.arange(count) * step, side - size))
        x, y = (a.ravel() for a in np.meshgrid(*starts))
        return np.stack([x, y, x + size, y + size], 1).astype(np.float32)
