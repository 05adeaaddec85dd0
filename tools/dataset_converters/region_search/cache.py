"""Region proposals of many images, computed once and kept on disk."""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from mmfgl.datasets.image_reader import (
    UnreadableImageError,
    decode_reduced,
    read_bytes,
)
from mmfgl.registry import TASK_UTILS
from mmfgl.utils.atomic_files import atomic_file, write_atomically
from mmfgl.utils.audit.uses import parts_of
from region_search.colour_descriptors import describe_colours

FORMAT = 3  # raised when the content of an entry changes
BLOCK = 4096  # images that workers may be ahead
ARRAYS = ('boxes', 'labels', 'descriptors')


@dataclass
class ImageProposals:
    """Regions of one image."""

    img_shape: tuple[int, int]  # (height, width) in pixels
    boxes: np.ndarray  # (N, 4) float32, in image pixels
    labels: np.ndarray  # (N,) int64
    descriptors: np.ndarray  # (N, D) float32, (N, 0) if not asked for
    cached: bool = False  # from the disk
    key: str = ''  # digest of the image's bytes


class ProposalCache:
    """Proposes regions of image files and keeps them on disk.

    An entry is found by the image's bytes and the proposer's settings: a
    renamed image is not searched again, a changed one is. That of a proposer
    that reads a region file is found by the image's path and the file's
    content besides. Each entry is a small file that appears whole or not at
    all, so a killed run goes on where it stopped.

    Args:
        proposer: Config of the region proposer.
        folder: Folder of the cache.
        describe: Whether to describe the regions by their colours.
    """

    def __init__(
        self, proposer: dict, folder: str, describe: bool = False
    ) -> None:
        settings = dict(proposer=proposer, describe=describe, format=FORMAT)
        files = [part.get('ann_file') for part in parts_of(proposer)]
        self.files = digest_of(filter(None, files)) if any(files) else None
        if self.files:
            settings['files'] = self.files
        text = json.dumps(settings, sort_keys=True, default=str).encode()
        self.proposer = TASK_UTILS.build(dict(proposer))
        self.describe = describe
        self.folder = Path(folder) / hashlib.sha1(text).hexdigest()[:16]
        write_atomically(text, self.folder / 'settings.json')

    def __call__(self, img_path: str) -> ImageProposals | None:
        """Regions of an image file, ``None`` if it cannot be decoded."""
        try:
            data = read_bytes(img_path)
        except UnreadableImageError:
            return None
        key = hashlib.sha1(data).hexdigest()
        stem = key
        if self.files:
            path = os.fsencode(os.path.abspath(img_path))
            stem = hashlib.sha1(key.encode() + path).hexdigest()
        entry = self.folder / stem[:2] / f'{stem}.npz'
        found = _read(entry)
        if found is None and (found := self._propose(img_path, data, key)):
            arrays = {name: getattr(found, name) for name in ARRAYS}
            with atomic_file(entry) as file:
                np.savez(file, img_shape=np.array(found.img_shape), **arrays)
        if found is not None:
            found.key = key
        return found

    def _propose(
        self, img_path: str, data: bytes, key: str
    ) -> ImageProposals | None:
        """Run the proposer."""
        try:
            img, shape = decode_reduced(data, img_path)
        except UnreadableImageError:
            return None
        info = dict(img_path=img_path, img_shape=shape, img=img)
        # random proposers: other boxes in every image, the same in every run
        rng = np.random.default_rng(int(key[:12], 16))
        boxes, labels, _ = self.proposer.propose_rows(info, rng)
        descriptors = np.zeros((len(boxes), 0), np.float32)
        if self.describe:
            zoom = np.array(img.shape[1::-1] * 2) / (shape[::-1] * 2)
            descriptors = describe_colours(img, boxes * zoom)
        return ImageProposals(shape, boxes, labels, descriptors)


def digest_of(paths: Iterable[str], text: str = '') -> str:
    """A digest of a text and of the content of files, or folders of files."""
    digest = hashlib.sha1(text.encode())
    for path in map(Path, paths):
        # a region file of arrays is a folder
        for file in sorted(path.glob('*')) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _read(entry: Path) -> ImageProposals | None:
    """Read an entry; one that is missing or damaged gives ``None``."""
    try:
        with np.load(entry) as data:
            shape = tuple(data['img_shape'].tolist())
            arrays = (data[name] for name in ARRAYS)
            return ImageProposals(shape, *arrays, cached=True)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def propose_all(
    paths: Iterable[str],
    proposer: dict,
    folder: str,
    describe: bool = False,
    workers: int = 0,
) -> Iterator[ImageProposals | None]:
    """Regions of many images in order, ``None`` for an unreadable one.

    Args as of :class:`ProposalCache`, and the number of processes; 0 for this
    one alone.
    """
    if workers == 0:
        yield from map(ProposalCache(proposer, folder, describe), paths)
        return
    TASK_UTILS.build(dict(proposer))  # its errors, before any worker starts
    with ProcessPoolExecutor(
        workers, initializer=_start, initargs=(proposer, folder, describe)
    ) as pool:
        # in blocks: the pool would keep the results of all images otherwise
        paths = iter(paths)
        while block := list(islice(paths, BLOCK)):
            yield from pool.map(_work, block, chunksize=4)


def _start(*settings) -> None:
    """Build this worker's cache; one thread, for workers fill the cores."""
    global _cache
    cv2.setNumThreads(0)
    _cache = ProposalCache(*settings)


def _work(path: str) -> ImageProposals | None:
    """Regions of one image in a worker."""
    return _cache(path)
