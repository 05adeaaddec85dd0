"""Interface of region proposers."""

from abc import ABCMeta, abstractmethod

import numpy as np


class RegionProposer(metaclass=ABCMeta):
    """Proposes regions of an image without any label."""

    @abstractmethod
    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Propose regions of one image.

        Args:
            info: Facts about the image: ``img_shape`` (height, width) in the
                pixels the boxes are wanted in, and ``img_path`` where known.
            rng: Source of randomness. ``None`` asks for the same regions at
                every call.

        Returns:
            (N, 4) float32 boxes (x1, y1, x2, y2) inside the image, in its
            pixels.
        """
