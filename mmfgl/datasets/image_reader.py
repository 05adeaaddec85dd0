"""The one reader of image files: in pretraining, proposing and detection.

Whatever is wrong with a file becomes one :class:`UnreadableImageError`. The
number of pixels is read from the header before anything is decoded. JPEG and
PNG are turned upright by their EXIF orientation, TIFF by its own tag, as
OpenCV and so MMDetection do; an orientation in XMP alone does not count.
"""

import struct
import zlib
from contextlib import contextmanager
from io import BytesIO

import cv2
import numpy as np
from mmengine import fileio
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from mmfgl.datasets.image_header import GIF, JPEG, image_size
from mmfgl.datasets.pixel_depth import to_bgr_bytes
from mmfgl.utils.audit.headers import exif_orientation
from mmfgl.utils.names import printable

#: A larger image is decoded at a reduced size where that saves the memory
#: (sequential JPEG), else it counts as unreadable. 268 megapixels take 0.8 GB.
MAX_PIXELS = 2**28
REDUCED = {1: cv2.IMREAD_COLOR}
REDUCED |= {r: getattr(cv2, f'IMREAD_REDUCED_COLOR_{r}') for r in (2, 4, 8)}
#: What OpenCV and Pillow raise for files that are no sound images.
READ_ERRORS = (
    *(OSError, ValueError, TypeError, LookupError, SyntaxError, EOFError),
    *(ArithmeticError, MemoryError, RuntimeError, struct.error, zlib.error),
    *(cv2.error, Image.DecompressionBombError),
)


class UnreadableImageError(ValueError):
    """An image file that cannot be used.

    Args:
        reason: Why.
        path: The file, if known.
    """

    def __init__(self, reason: str, path: str = '') -> None:
        self.reason, self.path = reason, path
        super().__init__(f'{printable(path) or "image"}: {reason}')

    def __reduce__(self) -> tuple:
        return type(self), (self.reason, self.path)


class EncodedImage:
    """A JPEG whose header is read and whose pixels are not yet.

    A JPEG decoder can give an image at a half, a quarter or an eighth of its
    size in a fraction of the time, each pixel being the mean of a block.
    Coordinates stay those of the full image, turned upright as its EXIF
    orientation says.

    Args:
        data: The file's bytes.
        max_pixels: Largest number of pixels to decode.
        path: The file, for messages.

    Attributes:
        shape: (height, width) of the full, upright image in pixels.
        least: Least reduction, 1, 2, 4 or 8, that keeps to ``max_pixels``.

    Raises:
        UnreadableImageError: The bytes do not start like a JPEG, or the image
            is too large even if reduced.
    """

    def __init__(
        self, data: bytes, max_pixels: int = MAX_PIXELS, path: str = ''
    ) -> None:
        self.data, self.path = data, path
        with _unreadable(path):
            header = JpegImageFile(BytesIO(data))
        width, height = header.size
        turn = exif_orientation(header.info.get('exif'))
        # the coefficients of a progressive one are kept in full size
        ways = (1,) if header.info.get('progressive') else REDUCED
        least = [r for r in ways if width * height <= max_pixels * r * r]
        if not least:
            raise _too_large(width, height, max_pixels, path)
        self.least = least[0]
        self.shape = (width, height) if turn >= 5 else (height, width)
        self._turn = turn
        # axes of the upright image that run against those of the file
        self._mirrored = (turn in (2, 3, 6, 7), turn in (3, 4, 7, 8))

    def copy(self) -> np.ndarray:
        """(h, w, 3) BGR uint8 pixels, at the least reduction.

        Tools that show what a transform has done, such as MMPretrain's
        ``browse_dataset.py``, take a copy of the image after each.
        """
        return self.pixels(self.least)

    def decode(self, reduce: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Decode at 1, 2, 4 or 8 pixels of the full image a decoded pixel.

        ``reduce`` is raised to ``least``.

        Returns:
            (h, w, 3) BGR uint8 image and the (2, 3) affine map from decoded
            to full pixels.

        Raises:
            UnreadableImageError: The file is damaged.
        """
        reduce = max(reduce, self.least)
        img = self.pixels(reduce)
        affine = np.eye(2, 3) * reduce
        # the incomplete block comes first along mirrored axes
        shift = np.array(self.shape) - np.array(img.shape[:2]) * reduce
        affine[:, 2] = np.where(self._mirrored, shift[::-1], 0)
        return img, affine

    def pixels(self, reduce: int = 1) -> np.ndarray:
        """The image of :meth:`decode`, at exactly this reduction."""
        flags = REDUCED[reduce] | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            img = cv2.imdecode(np.frombuffer(self.data, np.uint8), flags)
        except cv2.error:
            img = None
        height, width = self.shape
        size = -(-height // reduce), -(-width // reduce)
        if img is not None and self._turn > 1:
            img = _upright(img, self._turn)
        if img is None or img.shape[:2] != size:
            raise UnreadableImageError('damaged or cut off', self.path)
        return img


def read_image(
    path: str,
    lazy: bool = False,
    max_pixels: int = MAX_PIXELS,
    backend_args: dict | None = None,
) -> np.ndarray | EncodedImage:
    """Read an image file; see :func:`decode_image`.

    Args:
        path: The file.
        lazy: Leave the pixels of a JPEG encoded.
        max_pixels: See :data:`MAX_PIXELS`.
        backend_args: Of :func:`mmengine.fileio.get`.
    """
    data = read_bytes(path, backend_args)
    return decode_image(data, lazy, max_pixels, path)


def read_bytes(path: str, backend_args: dict | None = None) -> bytes:
    """Content of an image file.

    Raises:
        UnreadableImageError: There is none, or it may not be read.
    """
    try:
        return fileio.get(path, backend_args=backend_args)
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        raise UnreadableImageError(reason, path) from error


def decode_image(
    data: bytes,
    lazy: bool = False,
    max_pixels: int = MAX_PIXELS,
    path: str = '',
) -> np.ndarray | EncodedImage:
    """Decode the bytes of an image file, of whatever name.

    JPEG, PNG, BMP, TIFF, WebP, GIF (the first frame of an animation), and
    what OpenCV or Pillow know beside. Grey, palette and CMYK images become
    BGR; alpha is dropped. Values of more than 8 bits are scaled by the range
    that they use, 10, 12, 14 or 16 bits, floats from [0, 1] or from [0, 255],
    any other ones from their least to their largest; the first such image is
    reported.

    Returns:
        (H, W, 3) BGR uint8 image, or a JPEG as :class:`EncodedImage` if
        ``lazy``.

    Raises:
        UnreadableImageError: It is damaged, or larger than ``max_pixels``.
    """
    if not data:
        raise UnreadableImageError('the file is empty', path)
    if data.startswith(JPEG):
        image = EncodedImage(data, max_pixels, path)
        if lazy:
            return image
        if image.least > 1:
            raise _too_large(*image.shape[::-1], max_pixels, path)
        return image.pixels()
    with _unreadable(path):
        width, height = image_size(data)
    if width * height > max_pixels:
        raise _too_large(width, height, max_pixels, path)
    with _unreadable(path):
        return to_bgr_bytes(_decode(data), path)


def decode_reduced(
    data: bytes, path: str = ''
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode an image, if need be (:data:`MAX_PIXELS`) at a reduced size.

    Returns:
        (h, w, 3) BGR uint8 image and (height, width) of the full one.

    Raises:
        UnreadableImageError: See :func:`decode_image`.
    """
    image = decode_image(data, lazy=True, path=path)
    shape = tuple(image.shape[:2])
    if isinstance(image, EncodedImage):
        image = image.decode()[0]
    return image, shape


@contextmanager
def _unreadable(path: str):
    """Turn what the decoders raise into one kind of error."""
    try:
        yield
    except UnreadableImageError:
        raise
    except READ_ERRORS as error:
        reason = 'no image, or a damaged one'
        # which Pillow words with the address of a buffer
        if not isinstance(error, Image.UnidentifiedImageError):
            text = ' '.join(str(error).split()) or type(error).__name__
            reason = f'{reason} ({text[:150]})'
        raise UnreadableImageError(reason, path) from error


def _too_large(
    width: int, height: int, max_pixels: int, path: str
) -> UnreadableImageError:
    """The error for an image of too many pixels."""
    return UnreadableImageError(
        f'{width} x {height} pixels, more than max_pixels={max_pixels}', path
    )


def _upright(img: np.ndarray, turn: int) -> np.ndarray:
    """Turn an image as its EXIF orientation says."""
    if turn >= 5:
        img = cv2.transpose(img)
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(turn)
    return img if flip is None else cv2.flip(img, flip)


def _decode(data: bytes) -> np.ndarray:
    """Pixels of any type and number of channels, BGR if three."""
    if not data.startswith(GIF):  # of which OpenCV 4.11 knows nothing
        pixels = np.frombuffer(data, np.uint8)
        for flags in (
            cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH,
            cv2.IMREAD_UNCHANGED,  # a TIFF of one float a pixel
        ):
            if (img := cv2.imdecode(pixels, flags)) is not None:
                return img
    with Image.open(BytesIO(data)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in 'IF':  # more than 8 bits
            return np.asarray(image)
        return np.asarray(image.convert('RGB'))[..., ::-1]
