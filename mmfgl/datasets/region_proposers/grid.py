"""Multi-scale grid of squares."""

from collections.abc import Sequence

import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class GridRegions(RegionProposer):
    """Cut the image into squares of several sizes that overlap by half.

    A cell never exceeds the image's shorter side: on smaller images the size
    is that side. The last row and column end at the image's border.

    Args:
        cell_sizes: Sides of the squares in pixels of the image.
    """

    def __init__(self, cell_sizes: Sequence[int] = (112, 224, 448)) -> None:
        if not cell_sizes or min(cell_sizes) < 1:
            raise ValueError(f'cell_sizes must be positive, got {cell_sizes}')
        self.cell_sizes = tuple(cell_sizes)

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """All squares of the grid; see :class:`RegionProposer`.

        With ``rng`` the order of the squares is shuffled, so that taking the
        first few of them samples the grid.
        """
        height, width = info['img_shape'][:2]
        sizes = {min(size, height, width) for size in self.cell_sizes}
        boxes = np.concatenate(
            [_cells(size, height, width) for size in sorted(sizes)]
        )
        return boxes if rng is None else rng.permutation(boxes)


def _cells(size: int, height: int, width: int) -> np.ndarray:
    """(M, 4) squares of one size."""
    step = max(1, round(size / 2))
    starts = []
    for side in (width, height):
        count = int(np.ceil((side - size) / step)) + 1
        starts.append(np.minimum(np.arange(count) * step, side - size))
    x, y = (a.ravel() for a in np.meshgrid(*starts))
    return np.stack([x, y, x + size, y + size], 1).astype(np.float32)
