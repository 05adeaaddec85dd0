"""Regions of a set of images of any size, in memory-mapped arrays.

Shape shorthand: I images, N boxes of all of them, E embedding width.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

FORMAT = 1
CHUNK = 65536  # rows in memory at a time
# By file name: its hash, first row, end row, width and height in pixels.
IMAGE = np.dtype(
    [('key', 'u8'), ('rows', 'i8', 2), ('width', 'i4'), ('height', 'i4')]
)
# Numbers of one region.
REGION = dict(
    boxes=('f4', (4,)),  # in pixels of that width and height
    scores=('f4', ()),
    labels=('i4', ()),
)


def key_of(name: str) -> int:
    """Number of 64 bits that stands for a file name."""
    # names of files need not be UTF-8
    data = name.replace('\\', '/').encode('utf-8', 'surrogateescape')
    digest = hashlib.blake2b(data, digest_size=8)
    return int.from_bytes(digest.digest(), 'little')


class ImageIndex:
    """Finds an image's rows by its file name, without a name in memory.

    Args:
        table: (I,) of :data:`IMAGE`, sorted by ``key``.
    """

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def get(self, name: str) -> tuple[int, int, int, int] | None:
        """First row, end row, width and height, ``None`` if not there."""
        key = np.uint64(key_of(name))
        place = int(np.searchsorted(self.table['key'], key))
        if place == len(self.table) or self.table['key'][place] != key:
            return None
        image = self.table[place]
        size = int(image['width']), int(image['height'])
        return (*image['rows'].tolist(), *size)


class GrowingArray:
    """Rows that are appended to a file and read memory-mapped.

    Args:
        path: The file; one that exists is replaced.
        dtype: Type of a number.
        shape: Shape of a row.
    """

    def __init__(
        self, path: Path, dtype: str | np.dtype, shape: tuple[int, ...] = ()
    ) -> None:
        self.path, self.dtype, self.shape = path, np.dtype(dtype), shape
        self._file = open(path, 'wb')  # noqa: SIM115  (closed by read)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, rows: np.ndarray) -> None:
        """Add rows, (n, ...)."""
        rows = np.asarray(rows, self.dtype).reshape(len(rows), *self.shape)
        self._file.write(rows.tobytes())
        self._count += len(rows)

    def read(self) -> np.ndarray:
        """All rows, memory-mapped; nothing can be added any more."""
        self._file.close()
        shape = (self._count, *self.shape)
        if not np.prod(shape):
            return np.zeros(shape, self.dtype)
        return np.memmap(self.path, self.dtype, 'r', shape=shape)


class RegionSpool:
    """Regions as they are found, image by image, on disk.

    Args:
        folder: Where they are kept until :meth:`remove`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._arrays = {
            name: GrowingArray(self.folder / name, *kind)
            for name, kind in REGION.items()
        }
        self._images = GrowingArray(self.folder / 'images', IMAGE)

    def append(
        self, name: str, img_shape: tuple[int, int], **regions: np.ndarray
    ) -> None:
        """Add the regions of one image, the best first.

        Args:
            name: Its file name.
            img_shape: (height, width) in pixels.
            **regions: Its rows of all of :data:`REGION`.
        """
        start = len(self._arrays['boxes'])
        for key, array in self._arrays.items():
            array.append(regions[key])
        stop = len(self._arrays['boxes'])
        height, width = img_shape
        image = (key_of(name), (start, stop), width, height)
        self._images.append(np.array([image], IMAGE))

    def __len__(self) -> int:
        return len(self._arrays['boxes'])

    def read(self) -> dict[str, np.ndarray]:
        """The arrays of :data:`REGION` and ``images``, in order."""
        arrays = {key: value.read() for key, value in self._arrays.items()}
        return dict(arrays, images=self._images.read())

    def remove(self) -> None:
        """Delete the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def chunks_of(count: int) -> Iterator[slice]:
    """Slices of at most :data:`CHUNK` rows that make up ``count``."""
    for start in range(0, count, CHUNK):
        yield slice(start, min(start + CHUNK, count))


def write_rows(file: BinaryIO, rows: np.ndarray) -> None:
    """Write (n, ...) rows as :func:`numpy.save` does, piece by piece."""
    header = np.lib.format.header_data_from_array_1_0(rows)
    np.lib.format.write_array_header_1_0(file, header)
    for part in chunks_of(len(rows)):
        file.write(rows[part].tobytes())


def write_region_arrays(
    path: str, arrays: dict[str, np.ndarray], meta: dict
) -> int:
    """Write a region file as a folder; it appears whole or not at all.

    Args:
        path: The folder; one of an older region file is replaced.
        arrays: Those of :data:`REGION`, ``images`` and maybe ``embeddings``
            ((N, E) float16); see :func:`write_rows`.
        meta: What else to say of the regions, e.g. ``teacher``.

    Returns:
        The number of regions.

    Raises:
        FileExistsError: If there is something else under that name.
        ValueError: If two images have one name.
    """
    target = Path(path)
    if target.exists() and not (target / 'meta.json').is_file():
        raise FileExistsError(
            f'{path} exists and is no region file: give another name'
        )
    folder = target.with_name(f'.{target.name}.{os.getpid()}.tmp')
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        images = np.sort(arrays['images'], order='key')
        if (images['key'][1:] == images['key'][:-1]).any():
            raise ValueError(f'{path}: two images have the same file name')
        for key, values in dict(arrays, images=images).items():
            with open(folder / f'{key}.npy', 'wb') as file:
                write_rows(file, values)
        count = len(arrays['boxes'])
        meta = dict(meta, format=FORMAT, images=len(images), regions=count)
        (folder / 'meta.json').write_text(json.dumps(meta, indent=1))
        if target.exists():
            shutil.rmtree(target)
        os.replace(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return count


def read_region_arrays(path: str) -> tuple[dict, dict]:
    """Open a folder of :func:`write_region_arrays`.

    Returns:
        Its arrays by name, memory-mapped, and its meta.

    Raises:
        ValueError: If the folder is no region file, or a damaged one.
    """
    folder = Path(path)
    try:
        meta = json.loads((folder / 'meta.json').read_text())
        arrays = {
            file.stem: np.load(file, mmap_mode='r')
            for file in sorted(folder.glob('*.npy'))
        }
        counts = {key: len(arrays[key]) for key in REGION}
        counts['images'] = len(arrays['images'])
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise ValueError(
            f'{path!r} is no region file, or a damaged one ({error}): make '
            'it with tools/dataset_converters/propose_regions.py'
        ) from error
    expected = dict.fromkeys(REGION, meta.get('regions'))
    expected['images'] = meta.get('images')
    if 'embeddings' in arrays:
        counts['embeddings'] = len(arrays['embeddings'])
        expected['embeddings'] = meta.get('regions')
    if meta.get('format') != FORMAT or counts != expected:
        raise ValueError(
            f'{path!r} is a region file of another version, or a damaged '
            f'one: it has {counts} rows, not {expected}'
        )
    return arrays, meta
