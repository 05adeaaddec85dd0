"""Region files: boxes, scores, clusters and embeddings of a set of images.

A file is COCO-format JSON, or, for sets that memory does not hold, a folder of
arrays. A teacher's embeddings are memory-mapped: beside the JSON, or inside
the folder.

Shape shorthand: N boxes of all images, E embedding width.
"""

import hashlib
import json
import os.path as osp
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from mmfgl.datasets.region_arrays import (
    ImageIndex,
    chunks_of,
    read_region_arrays,
    write_rows,
)
from mmfgl.utils.atomic_files import atomic_file, write_atomically


@dataclass
class RegionFile:
    """Regions of a file, in few large arrays that workers can share.

    Attributes:
        images: First row, end row, width and height (0 if not in the file)
            by file name. The rows of an image go from the highest score
            down; without scores they keep the file's order.
        boxes: (N, 4) float32, in pixels of that width and height.
        labels: (N,) int, position of the category among the file's sorted
            category ids.
        embeddings: (N, E) float16, the region teacher's, memory-mapped;
            ``None`` without.
        meta: What the file says of itself, e.g. ``teacher``.
        order: (N,) rows of ``embeddings``; ``None`` if they are the same.
    """

    images: dict[str, tuple[int, int, int, int]] | ImageIndex
    boxes: np.ndarray
    labels: np.ndarray
    embeddings: np.ndarray | None = None
    meta: dict = field(default_factory=dict)
    order: np.ndarray | None = None

    def embed(self, rows: np.ndarray) -> np.ndarray:
        """(n, E) float32 embeddings of (n,) rows, of length 1."""
        if self.order is not None:
            rows = self.order[rows]
        found = np.asarray(self.embeddings[rows], np.float32)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(norms, 1e-6)

    def find(self, img_path: str) -> tuple[slice, tuple[int, int]] | None:
        """Rows and (width, height) of an image, ``None`` if it is not there.

        The file name must be the end of the path, or the whole of its
        absolute form; the longest one counts.
        """
        if (name := self.name_of(img_path)) is None:
            return None
        found = self.images.get(name)
        return slice(*found[:2]), found[2:]

    def name_of(self, img_path: str) -> str | None:
        """File name of an image in the file; see :meth:`find`."""
        path = plain_name(osp.abspath(img_path))
        start = 0
        while start >= 0:
            if self.images.get(path[start:]):
                return path[start:]
            after = path.find('/', start) + 1
            start = after or -1
        return None


def plain_name(name: str) -> str:
    """A file name as names are compared.

    Backslashes become slashes, ``..`` in the middle and ``./`` are resolved,
    and what leads out of the folder (``../``) is dropped.
    """
    name = posixpath.normpath(name.replace('\\', '/'))
    while name.startswith('../'):
        name = name[3:]
    return name


def read_region_file(path: str) -> RegionFile:
    """Read a region file, once however many proposers use it.

    Several ``images`` of one file name are one image: their boxes are joined.

    Args:
        path: COCO-format JSON; boxes may have a ``score``. Or a folder of
            arrays.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not in COCO format, an annotation belongs to no
            image of it, images of one name or id contradict each other, or
            its embeddings are of another file.
    """
    if osp.isdir(path):
        return _read_folder(osp.abspath(path), osp.getmtime(path))
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'region file {path!r} does not exist: make it with '
            'tools/dataset_converters/propose_regions.py'
        )
    return _read(osp.abspath(path), osp.getmtime(path), osp.getsize(path))


@lru_cache(maxsize=4)
def _read_folder(path: str, mtime: float) -> RegionFile:
    arrays, meta = read_region_arrays(path)
    return RegionFile(
        images=ImageIndex(arrays['images']),
        boxes=arrays['boxes'],
        labels=arrays['labels'],
        embeddings=arrays.get('embeddings'),
        meta=meta,
    )


@lru_cache(maxsize=4)
def _read(path: str, mtime: float, size: int) -> RegionFile:
    try:
        with open(path, 'rb') as file:  # a byte order mark may come first
            content = json.load(file)
        images = [(i['id'], i['file_name'], i) for i in content['images']]
        rows = [
            (a.get('id'), a['image_id'], a['category_id'], *a['bbox'])
            for a in content['annotations']
        ]
        scores = [a.get('score', np.inf) for a in content['annotations']]
        scores = np.array(scores, np.float32)
        boxes = np.array([row[3:] for row in rows], np.float32)
        boxes = boxes.reshape(len(rows), 4)
        categories = {c['id'] for c in content.get('categories', ())}
        meta = dict(content.get('info') or {})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path!r} is not in COCO format: it needs 'images' (id, "
            "file_name) and 'annotations' (image_id, category_id, bbox)"
        ) from error
    names, sizes = _named(path, images)
    for annotation, image_id, *_ in rows:
        if image_id not in names:
            raise ValueError(
                f'{path!r}: annotation {annotation} belongs to image '
                f'{image_id}, which the file does not list'
            )
    boxes[:, 2:] += boxes[:, :2]
    ranks = {name: rank for rank, name in enumerate(sizes)}
    owners = np.array([ranks[names[row[1]]] for row in rows], np.int64)
    order = np.lexsort((-scores, owners))  # stable
    ends = np.searchsorted(owners[order], np.arange(len(sizes) + 1))
    ids = np.array(sorted(categories | {row[2] for row in rows}))
    labels = np.searchsorted(ids, [row[2] for row in rows]).astype(np.int64)
    return RegionFile(
        images={
            name: (*map(int, ends[rank : rank + 2]), *sizes[name])
            for name, rank in ranks.items()
        },
        boxes=boxes[order],
        labels=labels[order],
        embeddings=_embeddings_beside(path, meta, len(rows)),
        meta=meta,
        order=order,
    )


def _named(
    path: str, images: list[tuple]
) -> tuple[dict[int, str], dict[str, tuple[int, int]]]:
    """File names by image id, and (width, height) by file name."""
    sizes, names, plain = {}, {}, {}
    for image_id, listed, image in images:
        name = plain_name(listed)
        shape = image.get('width', 0), image.get('height', 0)
        if names.setdefault(image_id, name) != name:
            raise ValueError(
                f'{path!r} gives image id {image_id} to two files, '
                f'{names[image_id]!r} and {name!r}'
            )
        listed = posixpath.normpath(listed.replace('\\', '/'))
        if plain.setdefault(name, listed) != listed:
            raise ValueError(
                f'{path!r} names {plain[name]!r} and {listed!r}, which cannot '
                'be told apart: use paths below one folder, or absolute ones'
            )
        if sizes.setdefault(name, shape) != shape:
            raise ValueError(f'{path!r} gives {name!r} two sizes')
    return names, sizes


def _embeddings_beside(path: str, meta: dict, count: int) -> np.ndarray | None:
    """The embeddings that a JSON file names, ``None`` if it names none."""
    if not meta.get('embeddings'):
        return None
    beside = Path(path).with_name(meta['embeddings'])
    try:
        found = np.load(beside, mmap_mode='r')
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path!r} needs its teacher's embeddings, {beside.name}, beside "
            f'it, which cannot be read ({error}): move both files, or '
            'propose the regions again'
        ) from error
    if len(found) != count:
        raise ValueError(
            f'{path!r} has {count} regions but {beside.name} has '
            f'{len(found)} embeddings: propose the regions again'
        )
    return found


def write_embeddings(path: str, embeddings: np.ndarray) -> str:
    """Write embeddings beside the region file that is written after them.

    Args:
        path: The region file, a JSON.
        embeddings: (N, E) float16, in the order of its annotations; see
            :func:`write_rows`.

    Returns:
        The name for ``embeddings`` of the region file's meta. It holds a
        digest: an older region file keeps its own.
    """
    digest = hashlib.sha1()
    for rows in chunks_of(len(embeddings)):
        digest.update(np.ascontiguousarray(embeddings[rows]))
    stem = Path(path).stem
    beside = f'{stem}.embeddings-{digest.hexdigest()[:8]}.npy'
    with atomic_file(Path(path).with_name(beside)) as file:
        write_rows(file, embeddings)
    return beside


def write_region_file(
    path: str,
    images: Iterable[dict],
    regions: Iterable,
    meta: dict | None = None,
) -> int:
    """Write a region file; it appears whole or not at all.

    Args:
        path: The file.
        images: ``id`` and ``file_name`` of each image.
        regions: For each image an object with ``img_shape`` (height, width),
            ``boxes`` ((N, 4) in image pixels, the best first) and ``labels``
            ((N,) int from 0). The score falls with the rank.
        meta: What the file is to say of itself (``info`` of COCO), e.g.
            ``teacher`` and ``embeddings``. Embeddings of an older file of
            this name are removed.

    Returns:
        The number of regions.
    """
    listed, annotations = [], []
    for image, found in zip(images, regions, strict=True):
        height, width = found.img_shape
        listed.append(dict(image, height=height, width=width))
        boxes = np.round(np.asarray(found.boxes, np.float64), 2)
        sides = np.round(boxes[:, 2:] - boxes[:, :2], 2)
        annotations += [
            dict(
                id=len(annotations) + rank + 1,
                image_id=image['id'],
                category_id=int(found.labels[rank]) + 1,
                bbox=[*boxes[rank, :2].tolist(), *side.tolist()],
                area=round(float(side.prod()), 2),
                iscrowd=0,
                score=round(1 - rank / len(boxes), 4),
            )
            for rank, side in enumerate(sides)
        ]
    last = max((a['category_id'] for a in annotations), default=1)
    content = dict(images=listed, annotations=annotations)
    content['categories'] = [
        dict(id=i + 1, name=f'region{i}') for i in range(last)
    ]
    if meta:
        content['info'] = meta
    write_atomically(json.dumps(content).encode(), path)
    prefix, kept = f'{Path(path).stem}.embeddings-', (meta or {})
    for old in Path(path).absolute().parent.iterdir():
        if (
            old.name.startswith(prefix)
            and old.suffix == '.npy'
            and old.name != kept.get('embeddings')
        ):
            old.unlink()
    return len(annotations)
