"""JPEG images that are decoded at the size that is needed."""

from io import BytesIO

import cv2
import numpy as np
from PIL import Image

REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
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

    @staticmethod
    def is_jpeg(data: bytes) -> bool:
        """Whether the bytes are those of a JPEG."""
        return data[:2] == b'\xff\xd8'

    def decode(self, reduce: int = 1) -> tuple[np.ndarray, np.ndarray] | None:
        """Decode the image at a share of its size.

        Args:
            reduce: 1, 2, 4 or 8: pixels of the full image a decoded pixel.

        Returns:
            (h, w, 3) BGR uint8 image and the (2, 3) affine map from full to
            decoded pixels, or ``None`` if the file is damaged.
        """
        try:
            img = cv2.imdecode(
                np.frombuffer(self.data, np.uint8), REDUCED[reduce]
            )
        except cv2.error:
            return None
        size = [-(-side // reduce) for side in self.shape]
        if img is None or list(img.shape[:2]) != size:
            return None
        affine = np.eye(2, 3) / reduce
        for axis, mirrored in enumerate(self._mirrored):
            if mirrored:  # the incomplete block comes first then
                side = self.shape[1 - axis]
                affine[axis, 2] = -(-side // reduce) - side / reduce
        return img, affine


def reduction(zooms: np.ndarray, least: float) -> int:
    """How far an image can be reduced before it is resized.

    Args:
        zooms: Sides of all crops over sides of their views: pixels of the
            full image a pixel of a view.
        least: Least number of decoded pixels a pixel of a view.

    Returns:
        1, 2, 4 or 8.
    """
    fitting = [r for r in REDUCED if np.min(zooms) / r >= least]
    return max(fitting, default=1)
