"""Loading of unlabelled images."""

import cv2
from mmcv.transforms import LoadImageFromFile

from mmfgl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadUnlabelledImage(LoadImageFromFile):
    """Load an image; an unreadable file gives ``None``, not an error.

    Nobody checks a million unlabelled files by hand, so missing, empty and
    corrupt ones are skipped by :class:`UnlabelledImages` and reported by
    :class:`UnreadableImageHook`.

    Args: those of :class:`mmcv.transforms.LoadImageFromFile`.
    """

    def transform(self, results: dict) -> dict | None:
        """Load one image.

        Args:
            results: Needs ``img_path``.

        Returns:
            ``results`` with ``img`` ((H, W, 3) BGR uint8), ``img_shape`` and
            ``ori_shape``, or ``None`` if the file cannot be decoded.
        """
        try:
            return super().transform(results)
        except (OSError, AssertionError, AttributeError, cv2.error):
            return None
