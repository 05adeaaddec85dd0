"""Loading of unlabelled images: whole, from memory, or at a reduced size."""

from io import BytesIO

import cv2
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from PIL import Image

from mmfgl.registry import TRANSFORMS

REDUCED = {1: cv2.IMREAD_COLOR}
REDUCED |= {r: getattr(cv2, f'IMREAD_REDUCED_COLOR_{r}') for r in (2, 4, 8)}
EXIF_ORIENTATION = 0x0112


class EncodedImage:
    """A JPEG whose header is read and whose pixels are not yet.

    A JPEG decoder can give an image at a half, a quarter or an eighth of its
    size in a fraction of the time, each pixel being the mean of a block.
    Coordinates stay those of the full image, turned upright as its EXIF
    orientation says.

    Args:
        data: The file's bytes.

    Attributes:
        shape: (height, width) of the full, upright image in pixels.

    Raises:
        OSError: If the bytes do not start like an image.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        with Image.open(BytesIO(data)) as header:
            width, height = header.size
            turn = header.getexif().get(EXIF_ORIENTATION, 1)
        self.shape = (width, height) if turn >= 5 else (height, width)
        # axes of the upright image that run against those of the file
        self._mirrored = (turn in (2, 3, 6, 7), turn in (3, 4, 7, 8))

    def decode(self, reduce: int = 1) -> tuple[np.ndarray, np.ndarray] | None:
        """Decode at 1, 2, 4 or 8 pixels of the full image a decoded pixel.

        Returns:
            (h, w, 3) BGR uint8 image and the (2, 3) affine map from decoded
            to full pixels, or ``None`` if the file is damaged.
        """
        data = np.frombuffer(self.data, np.uint8)
        try:
            img = cv2.imdecode(data, REDUCED[reduce])
        except cv2.error:
            return None
        size = [-(-side // reduce) for side in self.shape]
        if img is None or list(img.shape[:2]) != size:
            return None
        affine = np.eye(2, 3) * reduce
        # the incomplete block comes first along mirrored axes
        shift = np.array(self.shape) - np.array(size) * reduce
        affine[:, 2] = np.where(self._mirrored, shift[::-1], 0)
        return img, affine


def reduction(zooms: np.ndarray) -> int:
    """The largest of 1, 2, 4, 8 that leaves a decoded pixel a view pixel.

    ``zooms`` are pixels of the full image a pixel of a view, of all crops.
    """
    return max((r for r in REDUCED if np.min(zooms) >= r), default=1)


@TRANSFORMS.register_module()
class LoadUnlabelledImage(LoadImageFromFile):
    """Load an image; an unreadable file gives ``None``, not an error.

    Nobody checks a million unlabelled files by hand, so missing, empty and
    corrupt ones are skipped by :class:`UnlabelledImages` and reported by
    :class:`UnreadableImageHook`.

    Args:
        lazy: Leave the pixels of a JPEG to :class:`RegionViews`, which
            decodes large ones at a reduced size; ``img`` is an
            :class:`EncodedImage` then. No other transform may come between.
        **kwargs: Arguments of :class:`mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, lazy: bool = False, **kwargs) -> None:
        super().__init__(**kwargs)
        self.lazy = lazy

    def transform(self, results: dict) -> dict | None:
        """Load the file ``img_path``.

        Returns:
            ``results`` with ``img`` ((H, W, 3) BGR uint8), ``img_shape`` and
            ``ori_shape``, or ``None`` if the file cannot be decoded.
        """
        path = results['img_path']
        try:
            if self.lazy:
                data = fileio.get(path, backend_args=self.backend_args)
                if data[:2] == b'\xff\xd8':  # a JPEG
                    return _with_image(results, EncodedImage(data))
            return super().transform(results)
        except (OSError, AssertionError, AttributeError, cv2.error):
            return None


@TRANSFORMS.register_module()
class LoadCachedImage(LoadUnlabelledImage):
    """Load an image; the next time, take it from memory.

    For small data sets, which a short training run reads many times. Every
    worker process of a data loader has a cache of its own, so ``max_bytes``
    holds for each. An unreadable file gives ``None``, as in the parent.

    Args:
        max_bytes: Images that would make the cache larger are not kept.
        **kwargs: Arguments of :class:`mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(self, max_bytes: int = 512 * 2**20, **kwargs) -> None:
        super().__init__(**kwargs)
        self.max_bytes = max_bytes
        self._images: dict[str, np.ndarray] = {}
        self._bytes = 0

    def transform(self, results: dict) -> dict | None:
        """Load one image as the parent does; ``img`` is safe to change."""
        path = results['img_path']
        if path in self._images:
            return _with_image(results, self._images[path].copy())
        results = super().transform(results)
        if results is not None:
            img = results['img']
            if self._bytes + img.nbytes <= self.max_bytes:
                self._images[path] = img.copy()
                self._bytes += img.nbytes
        return results


def _with_image(results: dict, img: np.ndarray | EncodedImage) -> dict:
    """``results`` with an image and its (height, width)."""
    shape = tuple(img.shape[:2])
    results.update(img=img, img_shape=shape, ori_shape=shape)
    return results
