"""The region teacher: what a frozen network sees in the crop of a region.

Shape shorthand: N regions, D numbers each, S side of a crop in pixels.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from mmfgl.models.selfsup.teachers.image_features import ImageFeatures

CONTEXTS = (1.0, 1.5)  # side of a crop over that of its region
BATCH = 128  # crops


class RegionTeacher(ImageFeatures):
    """Describe regions of an image by their crops.

    A region is cropped as it is and with 1.5 times its sides, each crop also
    mirrored; its embedding is the mean of the four, of length 1. It belongs
    to the region, not to a view of it: augmentations do not change it.

    Args:
        model: See :class:`ImageFeatures`.
        weights: See :class:`ImageFeatures`.
        size: Side S of the resized crops in pixels.
        licence: See :class:`ImageFeatures`.
        trust: See :class:`ImageFeatures`.

    Raises:
        ValueError: If the network cannot read crops of this size; see also
            :class:`ImageFeatures`.
    """

    def __init__(
        self,
        model: str,
        weights: str,
        size: int = 64,
        licence: str | None = None,
        trust: bool = False,
    ) -> None:
        super().__init__(model, weights, licence, trust)
        self.size = size
        self.meta['preprocessing'].update(
            size=size, contexts=list(CONTEXTS), mirrored=True
        )
        try:
            probe = self(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(
                f'{model} cannot read crops of {size} pixels ({error}): give '
                'another --teacher-size, e.g. a multiple of its patch size'
            ) from error
        self.channels = probe.shape[1]

    def cuda_if_any(self) -> 'RegionTeacher':
        """Move to a GPU if there is one."""
        return self.cuda() if torch.cuda.is_available() else self

    def embed(self, img: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Describe regions.

        Args:
            img: (H, W, 3) BGR uint8 image.
            boxes: (N, 4) boxes in its pixels.

        Returns:
            (N, D) float32 embeddings of length 1; N may be 0.
        """
        if not len(boxes):
            return np.zeros((0, self.channels), np.float32)
        crops = [
            crop_region(img, box, context, self.size)
            for context in CONTEXTS
            for box in boxes
        ]
        crops = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        found = torch.cat(
            [
                F.normalize(self(part)) + F.normalize(self(part.flip(3)))
                for part in crops.split(BATCH)
            ]
        )
        found = F.normalize(found).unflatten(0, (len(CONTEXTS), -1)).sum(0)
        return F.normalize(found).cpu().numpy()


def crop_region(
    img: np.ndarray, box: np.ndarray, context: float, size: int
) -> np.ndarray:
    """Cut a region out of an image, with what is around it.

    Args:
        img: (H, W, 3) uint8 image.
        box: (x1, y1, x2, y2) in its pixels.
        context: Side of the crop over that of the region. What lies outside
            the image is left out.
        size: Side of the resized crop in pixels.

    Returns:
        (size, size, 3) uint8 crop; it need not keep the aspect ratio.
    """
    height, width = img.shape[:2]
    centre = (box[:2] + box[2:]) / 2
    half = (box[2:] - box[:2]) / 2 * context
    left, top = np.floor(centre - half).astype(int).clip(0)
    right, bottom = np.ceil(centre + half).astype(int)
    left, top = min(left, width - 1), min(top, height - 1)
    crop = img[top : max(bottom, top + 1), left : max(right, left + 1)]
    shrinks = min(crop.shape[:2]) > size
    mode = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(crop, (size, size), interpolation=mode)
