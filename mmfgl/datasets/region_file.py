"""Region files: boxes and clusters of a set of images, as COCO-format JSON.

Shape shorthand: N boxes of all images.
"""

import json
import os.path as osp
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmfgl.utils.atomic_files import write_atomically


@dataclass
class RegionFile:
    """Regions of a file, in few large arrays that workers can share.

    Attributes:
        images: First row, end row, width and height (0 if not in the file)
            by file name. The rows of an image go from the highest score
            down; without scores they keep the file's order.
        boxes: (N, 4) float32, in pixels of that width and height.
        labels: (N,) int64, position of the category among the file's sorted
            category ids.
    """

    images: dict[str, tuple[int, int, int, int]]
    boxes: np.ndarray
    labels: np.ndarray

    def find(self, img_path: str) -> tuple[slice, tuple[int, int]] | None:
        """Rows and (width, height) of an image, ``None`` if it is not there.

        The file name must be the end of the path, or the whole of its
        absolute form; the longest one counts.
        """
        path = plain_name(osp.abspath(img_path))
        start = 0
        while start >= 0:
            if found := self.images.get(path[start:]):
                return slice(*found[:2]), found[2:]
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
        path: COCO-format JSON; boxes may have a ``score``.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it is not in COCO format, an annotation belongs to no
            image of it, or images of one name or id contradict each other.
    """
    if not osp.isfile(path):
        raise FileNotFoundError(
            f'region file {path!r} does not exist: make it with '
            'tools/dataset_converters/propose_regions.py'
        )
    return _read(osp.abspath(path), osp.getmtime(path), osp.getsize(path))


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
        boxes = [row[3:] for row in rows]
        boxes = np.array(boxes, np.float32).reshape(len(rows), 4)
        categories = {c['id'] for c in content.get('categories', ())}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path!r} is not in COCO format: it needs 'images' (id, "
            "file_name) and 'annotations' (image_id, category_id, bbox)"
        ) from error
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
    )


def write_region_file(
    path: str, images: Iterable[dict], regions: Iterable
) -> int:
    """Write a region file; it appears whole or not at all.

    Args:
        path: The file.
        images: ``id`` and ``file_name`` of each image.
        regions: For each image an object with ``img_shape`` (height, width),
            ``boxes`` ((N, 4) in image pixels, the best first) and ``labels``
            ((N,) int from 0). The score falls with the rank.

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
    categories = [dict(id=i + 1, name=f'region{i}') for i in range(last)]
    content = dict(images=listed, annotations=annotations)
    content = json.dumps(content | dict(categories=categories))
    write_atomically(content.encode(), path)
    return len(annotations)
