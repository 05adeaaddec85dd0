"""Random boxes."""

import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RandomRegions(RegionProposer):
    """Boxes of random position, size and shape.

    The square root of the area (``SCALE``, a share of the image's shorter
    side) and width over height (``RATIO``) are drawn log-uniformly, so that
    small and large regions are equally common, as objects are.

    Args:
        num_regions: Number N of boxes.
    """

    SCALE = (0.1, 0.8)
    RATIO = (0.5, 2.0)

    def __init__(self, num_regions: int = 64) -> None:
        if num_regions < 1:
            raise ValueError(f'num_regions must be >= 1, got {num_regions}')
        self.num_regions = num_regions

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """(N, 4) random boxes; see :class:`RegionProposer`."""
        rng = rng or np.random.default_rng(0)
        height, width = info['img_shape'][:2]
        count = self.num_regions
        side = np.exp(rng.uniform(*np.log(self.SCALE), size=count))
        side *= min(height, width)
        root = np.sqrt(np.exp(rng.uniform(*np.log(self.RATIO), size=count)))
        sides = np.stack([side * root, side / root], axis=1)
        sides = np.minimum(sides, [width, height])
        corner = rng.uniform(size=(count, 2)) * ([width, height] - sides)
        return np.concatenate([corner, corner + sides], 1).astype(np.float32)
