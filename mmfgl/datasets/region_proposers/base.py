"""Interface of region proposers."""

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence

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
                pixels the boxes are wanted in, ``img_path`` where known, and
                ``img`` ((h, w, 3) BGR uint8) where it is decoded already;
                ``img`` may be smaller than ``img_shape`` says.
            rng: Source of randomness. ``None`` asks for the same regions at
                every call.

        Returns:
            (N, 4) float32 boxes (x1, y1, x2, y2) inside the image, in its
            pixels; N may be 0. The best come first where they are ranked.
        """

    def propose_rows(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """:meth:`propose` with (N,) int64 pseudo-labels and rows.

        A label is 0 if unknown; a row is that in the region file, -1 for a
        box that comes from none.
        """
        boxes = self.propose(info, rng)
        unknown = np.zeros(len(boxes), np.int64)
        return boxes, unknown, unknown - 1

    def check_images(self, paths: Sequence[str]) -> None:  # noqa: B027
        """Make sure, before the first is asked for, that it knows images.

        Raises:
            ValueError: It would take one image for another.
        """
