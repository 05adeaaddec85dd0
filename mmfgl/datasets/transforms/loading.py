"""Loading of images: whole, from memory, or at a reduced size."""

import numpy as np
from mmcv.transforms import BaseTransform

from mmfgl.datasets.image_reader import (
    MAX_PIXELS,
    REDUCED,
    EncodedImage,
    read_image,
)
from mmfgl.registry import TRANSFORMS


def reduction(zooms: np.ndarray) -> int:
    """The largest of 1, 2, 4, 8 that leaves a decoded pixel a view pixel.

    ``zooms`` are pixels of the full image a pixel of a view, of all crops.
    """
    return max((r for r in REDUCED if np.min(zooms) >= r), default=1)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load an image by the one reader of mmfgl, for detection.

    In place of ``LoadImageFromFile`` of MMCV, whose errors do not name the
    file. :class:`UnreadableImageHook` exchanges one for the other in the data
    sets of a run, so that configs keep the parent's, which
    ``DetInferencer`` looks for; a config lists this one to set ``max_pixels``.

    Required keys: ``img_path``. Added keys: ``img`` ((H, W, 3) BGR uint8),
    ``img_shape`` and ``ori_shape`` ((height, width) in pixels).

    Args:
        max_pixels: A larger image counts as unreadable; see
            :data:`~mmfgl.datasets.image_reader.MAX_PIXELS`.
        backend_args: Of :func:`mmengine.fileio.get`.
    """

    def __init__(
        self, max_pixels: int = MAX_PIXELS, backend_args: dict | None = None
    ) -> None:
        if max_pixels < 1:
            raise ValueError(f'max_pixels must be >= 1, got {max_pixels}')
        self.max_pixels = max_pixels
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """Load the file ``img_path``.

        Raises:
            UnreadableImageError: The file cannot be used; says why.
        """
        return _with_image(results, self._read(results['img_path']))

    def _read(
        self, path: str, lazy: bool = False
    ) -> np.ndarray | EncodedImage:
        return read_image(path, lazy, self.max_pixels, self.backend_args)


@TRANSFORMS.register_module()
class LoadUnlabelledImage(LoadImage):
    """Load an image for pretraining.

    Nobody checks a million unlabelled files by hand, so missing, empty and
    corrupt ones are skipped by :class:`UnlabelledImages` and reported by
    :class:`UnreadableImageHook`.

    Args:
        lazy: Leave the pixels of a JPEG to :class:`RegionViews`, which
            decodes large ones at a reduced size; ``img`` is an
            :class:`EncodedImage` then. No other transform may come between.
        **kwargs: Arguments of :class:`LoadImage`. If ``lazy``, a JPEG of more
            than ``max_pixels`` is used at a reduced size.
    """

    def __init__(self, lazy: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.lazy = lazy

    def transform(self, results: dict) -> dict:
        """Load the file ``img_path``; see the parent."""
        img = self._read(results['img_path'], self.lazy)
        return _with_image(results, img)


@TRANSFORMS.register_module()
class LoadCachedImage(LoadUnlabelledImage):
    """Load an image; the next time, take it from memory.

    For small data sets, which a short training run reads many times. Every
    worker process of a data loader has a cache of its own; images that would
    make it larger than ``MAX_BYTES`` are not kept.

    Args:
        **kwargs: Arguments of :class:`LoadImage`.
    """

    MAX_BYTES = 512 * 2**20

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self._images: dict[str, np.ndarray] = {}
        self._bytes = 0

    def transform(self, results: dict) -> dict:
        """Load one image as the parent does; ``img`` is safe to change."""
        path = results['img_path']
        if path in self._images:
            return _with_image(results, self._images[path].copy())
        results = super().transform(results)
        img = results['img']
        if not self.lazy and self._bytes + img.nbytes <= self.MAX_BYTES:
            self._images[path] = img.copy()
            self._bytes += img.nbytes
        return results


def _with_image(results: dict, img: np.ndarray | EncodedImage) -> dict:
    """``results`` with an image and its (height, width)."""
    shape = tuple(img.shape[:2])
    results.update(img=img, img_shape=shape, ori_shape=shape)
    return results
