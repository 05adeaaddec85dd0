"""Size of an image in memory, before anything is decoded."""

import struct
from io import BytesIO

from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.WebPImagePlugin import WebPImageFile

JPEG, PNG, GIF = b'\xff\xd8', b'\x89PNG\r\n\x1a\n', b'GIF8'
TIFF = b'II*\0', b'MM\0*', b'II+\0', b'MM\0+'  # + is BigTIFF
TIFF_SIZE = 256, 257  # tags of width and height
# Pillow's classes, not Image.open, which refuses more than 179 megapixels
HEADERS = {
    GIF: GifImageFile,
    b'BM': BmpImageFile,
    b'RIFF': WebPImageFile,
}


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height from the header of an image that is no JPEG.

    Raises:
        Exception: Whatever Pillow raises for what is no sound image.
    """
    if data.startswith(PNG):
        _check_chunks(data)
        return struct.unpack('>II', data[16:24])
    if data.startswith(TIFF):  # TiffImageFile refuses floats of 3 channels
        tags = ImageFileDirectory_v2(data[: 16 if b'+' in data[:4] else 8])
        file = BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        return tuple(tags[tag] for tag in TIFF_SIZE)
    for magic, header in HEADERS.items():
        if data.startswith(magic):
            return header(BytesIO(data)).size
    with Image.open(BytesIO(data)) as image:
        return image.size


def _check_chunks(data: bytes) -> None:
    """Refuse a PNG for whose chunks OpenCV would take gigabytes."""
    place = len(PNG)
    while place + 4 <= len(data):
        (length,) = struct.unpack_from('>I', data, place)
        if length > len(data):
            raise ValueError('a chunk longer than the file')
        place += length + 12
