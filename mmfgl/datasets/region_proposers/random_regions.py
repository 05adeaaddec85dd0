"""Random boxes."""

import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class RandomRegions(RegionProposer):
    """Boxes of random place, size and shape.

    Sides are drawn log-uniformly, so that small and large regions are equally
    common, as objects are.

    Args:
        num_regions: Number N of boxes.
        scale: Least and largest square root of the area as a share of the
            image's shorter side.
        ratio: Least and largest width over height.
        seed: Seed used when no source of randomness is given.
    """

    def __init__(
        self,
        num_regions: int = 64,
        scale: tuple[float, float] = (0.1, 0.8),
        ratio: tuple[float, float] = (0.5, 2.0),
        seed: int = 0,
    ) -> None:
        if num_regions < 1:
            raise ValueError(f'num_regions must be >= 1, got {num_regions}')
        for name, (low, high) in dict(scale=scale, ratio=ratio).items():
            if not 0 < low <= high:
                raise ValueError(
                    f'{name} needs 0 < least <= largest, got ({low}, {high})'
                )
        self.num_regions = num_regions
        self.scale = tuple(scale)
        self.ratio = tuple(ratio)
        self.seed = seed

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Random boxes; see :class:`RegionProposer`.

        Args:
            info: Image facts with ``img_shape``.
            rng: Source of randomness. Defaults to one with the seed.

        Returns:
            (N, 4) float32 boxes in image pixels.
        """
        rng = rng or np.random.default_rng(self.seed)
        height, width = info['img_shape'][:2]
        count = self.num_regions
        side = np.exp(rng.uniform(*np.log(self.scale), size=count))
        side *= min(height, width)
        root = np.sqrt(np.exp(rng.uniform(*np.log(self.ratio), size=count)))
        sides = np.stack([side * root, side / root], axis=1)
        sides = np.minimum(sides, [width, height])
        corner = rng.uniform(size=(count, 2)) * ([width, height] - sides)
        return np.concatenate([corner, corner + sides], 1).astype(np.float32)
