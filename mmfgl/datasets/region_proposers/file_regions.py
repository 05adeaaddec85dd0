"""Regions of a region file."""

import logging
import os.path as osp
from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log

from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.datasets.region_file import read_region_file
from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.registry import TASK_UTILS

MOST_CHECKED = 10**6  # images


@TASK_UTILS.register_module()
class FileRegions(RegionProposer):
    """Boxes of a region file, e.g. of ``propose_regions.py``.

    An image is found by its file name: the ``file_name`` in the file must be
    the end of the image's path. Boxes are in the pixels of ``width`` and
    ``height`` in the file, the highest ``score`` comes first, and the
    clusters (categories) are the pseudo-labels. Boxes without any area inside
    the image are left out.

    Args:
        ann_file: The region file, a COCO-format JSON or a folder of arrays.
        max_regions: Largest number of boxes, ``None`` for all.

    Raises:
        ValueError: If ``max_regions`` is below 1; see also
            :func:`read_region_file`.
    """

    def __init__(self, ann_file: str, max_regions: int | None = None) -> None:
        if max_regions is not None and max_regions < 1:
            raise ValueError(f'max_regions must be >= 1, got {max_regions}')
        self.ann_file = ann_file
        self.max_regions = max_regions
        self.regions = read_region_file(ann_file)

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """(N, 4) boxes; see :meth:`propose_rows`."""
        return self.propose_rows(info, rng)[0]

    def propose_rows(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes, clusters and rows in the file; see :class:`RegionProposer`.

        Raises:
            UnreadableImageError: If the file does not hold the image, so that
                another takes its place.
            ValueError: If the image's shape is not the one in the file.
        """
        if (found := self.regions.find(info['img_path'])) is None:
            raise UnreadableImageError(
                f'not in the region file {self.ann_file!r}: propose regions '
                'for this folder too',
                info['img_path'],
            )
        rows, size = found
        height, width = info['img_shape'][:2]
        limits = np.array([width, height] * 2, np.float32)
        boxes = np.asarray(self.regions.boxes[rows])
        if all(size):
            zoom = (limits / (size * 2)).astype(np.float32)
            # a pixel is lost or won where a scaled size is rounded
            rounding = 1.5 / min(height, width) + 1.5 / min(size)
            if abs(np.log(zoom[0] / zoom[1])) > rounding:
                raise ValueError(
                    f'{info["img_path"]!r} is {width} x {height} pixels but '
                    f'{size[0]} x {size[1]} in the region file '
                    f'{self.ann_file!r}: propose its regions again'
                )
            boxes = boxes * zoom
        boxes = np.clip(boxes, 0, limits)
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        kept = kept[: self.max_regions]
        labels = self.regions.labels[rows][kept].astype(np.int64)
        return boxes[kept], labels, rows.start + kept

    def check_images(self, paths: Sequence[str]) -> None:
        """Find the images, and say what the file holds of them.

        Raises:
            ValueError: It holds none, or one name for two of them.
        """
        name_of = self.regions.name_of
        # of a million and more, some: a name takes 10 microseconds
        rows = range(0, len(paths), 1 + len(paths) // MOST_CHECKED)
        names = (name_of(paths[row]) for row in rows)
        # numbers: they take less memory than the names
        keys = (0 if name is None else hash(name) or 1 for name in names)
        keys = np.fromiter(keys, np.int64, len(rows))
        if not keys.any():
            raise ValueError(
                f'none of the {len(paths)} images, {paths[0]!r} first, is in '
                f'the region file {self.ann_file!r}: propose regions for '
                'their folder'
            )
        order = np.argsort(keys, kind='stable')
        same = (np.diff(keys[order]) == 0) & (keys[order[1:]] != 0)
        for pair in np.stack([order[:-1], order[1:]], 1)[same].tolist():
            one, other = (paths[rows[place]] for place in pair)
            if osp.realpath(one) != osp.realpath(other):
                raise ValueError(
                    f'{one!r} and {other!r} are both {name_of(one)!r} of the '
                    f'region file {self.ann_file!r}: propose regions for a '
                    'folder that holds both'
                )
        missing = int((keys == 0).sum())
        lost = f'; {missing} images are not in it: left out' * (missing > 0)
        print_log(
            f'Regions: {self.ann_file}, {len(self.regions.boxes)} boxes in '
            f'{len(self.regions.images)} images, '
            f'{int(self.regions.labels.max(initial=0)) + 1} clusters{lost}',
            logger='current',
            level=logging.WARNING if missing else logging.INFO,
        )
