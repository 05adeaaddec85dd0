"""Regions read from a COCO-format JSON."""

import json
import os.path as osp
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class FileRegions(RegionProposer):
    """Boxes of a COCO-format JSON, e.g. of ``propose_regions.py``.

    An image is found by its file name: the ``file_name`` in the JSON must be
    the end of the image's path. Boxes are in the pixels of ``width`` and
    ``height`` in the JSON. Where boxes have a ``score``, the highest come
    first, otherwise the file's order is kept. ``category_id`` gives the
    pseudo-label: its place among the sorted ids of the file.

    Args:
        ann_file: The JSON file.
        min_score: Boxes of a lower score are left out.
        max_regions: Largest number of boxes, ``None`` for all.
        allow_missing: Give no box for an image that is not in the file,
            instead of an error.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not in COCO format.
    """

    def __init__(
        self,
        ann_file: str,
        min_score: float = float('-inf'),
        max_regions: int | None = None,
        allow_missing: bool = False,
    ) -> None:
        if max_regions is not None and max_regions < 1:
            raise ValueError(f'max_regions must be >= 1, got {max_regions}')
        if not osp.isfile(ann_file):
            raise FileNotFoundError(
                f'region file {ann_file!r} does not exist: make it with '
                'tools/dataset_converters/propose_regions.py'
            )
        self.ann_file = ann_file
        self.min_score = min_score
        self.max_regions = max_regions
        self.allow_missing = allow_missing
        stat = osp.getmtime(ann_file), osp.getsize(ann_file)
        self.store = _read(osp.abspath(ann_file), *stat)

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Boxes of the file; see :class:`RegionProposer`.

        Args:
            info: Image facts with ``img_path`` and ``img_shape``.
            rng: Not used.

        Returns:
            (N, 4) float32 boxes in image pixels.
        """
        return self.propose_labelled(info, rng)[0]

    def propose_labelled(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and pseudo-labels of the file; see :class:`RegionProposer`.

        Args:
            info: Image facts with ``img_path`` and ``img_shape``.
            rng: Not used.

        Returns:
            (N, 4) float32 boxes in image pixels and (N,) int64 labels.

        Raises:
            KeyError: If the file does not hold the image.
            ValueError: If the image's shape is not the one in the file.
        """
        rows = self._rows(info)
        if not len(rows):
            return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        rows = rows[self.store.scores[rows] >= self.min_score]
        rows = rows[: self.max_regions]
        height, width = info['img_shape'][:2]
        zoom = self._zoom(info, width, height)
        limits = np.array([width, height] * 2, np.float32)
        boxes = np.clip(self.store.boxes[rows] * zoom, 0, limits)
        return boxes.astype(np.float32), self.store.labels[rows]

    def _rows(self, info: dict) -> np.ndarray:
        """Rows of an image in the store."""
        name = self._name(info['img_path'])
        if name is not None:
            return np.arange(*self.store.images[name][:2])
        if self.allow_missing:
            return np.arange(0)
        raise KeyError(
            f'{info["img_path"]!r} is not in the region file '
            f'{self.ann_file!r}: propose regions for this folder too, or set '
            'allow_missing=True'
        )

    def _name(self, img_path: str) -> str | None:
        """File name of an image in the JSON: the longest end of its path."""
        parts = PurePath(img_path).parts
        for start in range(len(parts)):
            name = '/'.join(parts[start:])
            if name in self.store.images:
                return name
        return None

    def _zoom(self, info: dict, width: int, height: int) -> np.ndarray:
        """Factors from pixels of the file to pixels of the image."""
        _, _, *size = self.store.images[self._name(info['img_path'])]
        if not all(size):
            return np.ones(4, np.float32)
        zoom = np.array([width, height] * 2, np.float32) / (size * 2)
        # a pixel is lost or won where a scaled size is rounded
        rounding = 1.5 / min(width, height) + 1.5 / min(size)
        if abs(np.log(zoom[0] / zoom[1])) > rounding:
            raise ValueError(
                f'{info["img_path"]!r} is {width} x {height} pixels but '
                f'{size[0]} x {size[1]} in the region file '
                f'{self.ann_file!r}: propose its regions again'
            )
        return zoom


@dataclass
class _Store:
    """All boxes of a file, in few large arrays that workers can share."""

    images: dict[str, tuple[int, int, int, int]]  # first, end, width, height
    boxes: np.ndarray  # (N, 4) float32
    labels: np.ndarray  # (N,) int64
    scores: np.ndarray  # (N,) float32, +inf where there is none


@lru_cache(maxsize=4)
def _read(ann_file: str, mtime: float, size: int) -> _Store:
    """Read a file once, however many proposers use it."""
    try:
        with open(ann_file, encoding='utf-8') as file:
            content = json.load(file)
        images = content['images']
        rows = [
            (a['image_id'], a['category_id'], a.get('score', np.inf))
            for a in content['annotations']
        ]
        boxes = [a['bbox'] for a in content['annotations']]
        names = {i['id']: i['file_name'].replace('\\', '/') for i in images}
        categories = {c['id'] for c in content.get('categories', ())}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{ann_file!r} is not in COCO format: it needs 'images' (id, "
            "file_name) and 'annotations' (image_id, category_id, bbox)"
        ) from error
    places = {image: place for place, image in enumerate(names)}
    labels = {
        category: label
        for label, category in enumerate(
            sorted(categories | {row[1] for row in rows})
        )
    }
    owners = np.array([places[row[0]] for row in rows], np.int64)
    scores = np.array([row[2] for row in rows], np.float32)
    order = np.lexsort((-scores, owners))  # stable
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    ends = np.searchsorted(owners[order], np.arange(len(names) + 1))
    sizes = [(i.get('width', 0), i.get('height', 0)) for i in images]
    return _Store(
        images={
            name: (int(first), int(end), *size)
            for name, first, end, size in zip(
                names.values(), ends[:-1], ends[1:], sizes, strict=True
            )
        },
        boxes=boxes[order],
        labels=np.array([labels[row[1]] for row in rows], np.int64)[order],
        scores=scores[order],
    )
