"""Sizes of many image files, read from their headers in parallel."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import os.path as osp
import stat
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from mmengine.utils import track_iter_progress
from PIL import Image

from mmfgl.utils.atomic_files import write_atomically

THREADS = 16  # they wait for the disk more than they compute
PART = 256  # images a task: one of each would cost more than its header
MANY = 1000  # images from which a cache and a progress bar pay
ORIENTATION = 0x0112
# what OpenCV turns by EXIF; a TIFF's size is that of the turned image already
TURNED = ('JPEG', 'MPO', 'PNG')


class Header(NamedTuple):
    """Start of an image file."""

    bytes: int  # size of the file
    time: int  # of its last change, ns
    width: int  # as stored, pixels; 0 if the file is no readable image
    height: int
    turn: int  # EXIF orientation, 1 to 8, 1 for none

    @property
    def upright(self) -> tuple[int, int]:
        """(width, height) after turning the image by its EXIF."""
        if self.turn >= 5:
            return self.height, self.width
        return self.width, self.height


def read_headers(folder: str, names: Sequence[str]) -> list[Header | None]:
    """Headers of image files, ``None`` for those that do not exist.

    Nothing but headers is read. Those of a folder with many images are
    remembered, by path, size and time of change, below ``XDG_CACHE_HOME``
    (default ``~/.cache``), where that can be written, and show a progress bar.

    Args:
        folder: Folder of the images.
        names: Their paths relative to it, or absolute.
    """
    many = len(names) >= MANY
    store = _store(folder)
    known = _load(store) if many else {}

    def read(some: Sequence[str]) -> list[Header | None]:
        return [_read(osp.join(folder, n), known.get(n)) for n in some]

    parts = [names[i : i + PART] for i in range(0, len(names), PART)]
    headers = []
    with _huge_images_allowed(), ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(read, parts)
        if many:
            tasks = (found, len(parts))
            found = track_iter_progress(tasks, file=sys.stderr)
        for part in found:
            headers += part
    pairs = zip(names, headers, strict=True)
    fresh = {name: header for name, header in pairs if header is not None}
    if many and any(known.get(n) != list(h) for n, h in fresh.items()):
        with contextlib.suppress(OSError):  # only slower the next time
            write_atomically(json.dumps(known | fresh).encode(), store)
    return headers


def _store(folder: str) -> Path:
    root = os.environ.get('XDG_CACHE_HOME') or osp.expanduser('~/.cache')
    key = hashlib.sha256(osp.realpath(folder).encode('utf-8', 'replace'))
    return Path(root) / 'mmfgl' / 'headers' / f'{key.hexdigest()[:16]}.json'


def _load(store: Path) -> dict[str, list[int]]:
    try:
        known = json.loads(store.read_bytes())
        fields = len(Header._fields)
        return {n: h for n, h in known.items() if len(h) == fields}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _read(path: str, known: list[int] | None) -> Header | None:
    try:
        info = os.stat(path)
    except (OSError, ValueError):  # ValueError: a null byte in the name
        return None
    key = (info.st_size, info.st_mtime_ns)
    if known and tuple(known[:2]) == key:
        return Header(*known)
    try:
        if not stat.S_ISREG(info.st_mode):
            raise OSError(f'{path} is no file')
        with Image.open(path) as image:
            return Header(*key, *image.size, _turn(image))
    except Exception:  # PIL's readers raise whatever damaged bytes cause
        return Header(*key, 0, 0, 1)


def _turn(image: Image.Image) -> int:
    """EXIF orientation that OpenCV applies; it does not look at XMP."""
    if image.format not in TURNED:
        return 1
    return exif_orientation(image.info.get('exif'))


def exif_orientation(exif: bytes | None) -> int:
    """EXIF orientation 1 to 8; 1 if there is none that makes sense."""
    if not exif:
        return 1
    content = Image.Exif()
    try:
        content.load(exif)
        turn = content.get(ORIENTATION)
    except Exception:  # damaged EXIF, which OpenCV ignores too
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


@contextlib.contextmanager
def _huge_images_allowed() -> Iterator[None]:
    """Nothing is decoded, so that no size is dangerous."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of odd metadata
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
