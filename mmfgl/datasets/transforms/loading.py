"""Loading of unlabelled images."""

import cv2
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio

from mmfgl.datasets.encoded_image import EncodedImage
from mmfgl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadUnlabelledImage(LoadImageFromFile):
    """Load an image; an unreadable file gives ``None``, not an error.

    Nobody checks a million unlabelled files by hand, so missing, empty and
    corrupt ones are skipped by :class:`UnlabelledImages` and reported by
    :class:`UnreadableImageHook`.

    Args:
        lazy: Leave the pixels of a JPEG to :class:`TwoRegionViews`, which
            decodes large ones at a reduced size; ``img`` is an
            :class:`EncodedImage` then. No other transform may come between.
        **kwargs: Arguments of :class:`mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, lazy: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.lazy = lazy

    def transform(self, results: dict) -> dict | None:
        """Load one image.

        Args:
            results: Needs ``img_path``.

        Returns:
            ``results`` with ``img`` ((H, W, 3) BGR uint8), ``img_shape`` and
            ``ori_shape``, or ``None`` if the file cannot be decoded.
        """
        try:
            if self.lazy and (img := self._encoded(results['img_path'])):
                results['img'] = img
                results['img_shape'] = results['ori_shape'] = img.shape
                return results
            return super().transform(results)
        except (OSError, AssertionError, AttributeError, cv2.error):
            return None

    def _encoded(self, path: str) -> EncodedImage | None:
        """The file if it is a JPEG."""
        data = fileio.get(path, backend_args=self.backend_args)
        return EncodedImage(data) if EncodedImage.is_jpeg(data) else None
