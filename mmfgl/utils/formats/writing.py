"""Write a data set for MMDetection's configs; images stay where they are."""

from __future__ import annotations

import json
import os.path as osp
from dataclasses import dataclass
from pathlib import Path

from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.formats.base import Dataset


@dataclass
class Written:
    """Files of a data set, for a config.

    Attributes:
        ann_files: Absolute path of each split's COCO JSON, for ``ann_file``.
        roots: Absolute folder of each split's images, for
            ``data_prefix=dict(img=)``.
        photo_list: Text file of all photographs, labelled or not, an
            absolute path a line, for the ``ann_file`` of pretraining.
        num_photos: Their number.
        num_unlabelled: How many of them no split lists.
    """

    ann_files: dict[str, str]
    roots: dict[str, str]
    photo_list: str
    num_photos: int
    num_unlabelled: int


def write_dataset(dataset: Dataset, out_dir: str | Path) -> Written:
    """Write ``annotations/{train,val,test}.json`` and ``photos.txt``.

    The same data give the same bytes.

    Args:
        dataset: What is to be written.
        out_dir: Folder; it is made.

    Raises:
        OSError: It cannot be written.
    """
    out = osp.abspath(out_dir)
    ann_files = {}
    for name, split in dataset.splits.items():
        path = osp.join(out, 'annotations', f'{name}.json')
        data = json.dumps(split.content, separators=(',', ':'))
        write_atomically(data.encode('ascii'), path)
        ann_files[name] = path
    photos = dataset.all_photos()
    photo_list = osp.join(out, 'photos.txt')
    lines = ''.join(f'{path}\n' for path in photos)
    write_atomically(lines.encode('utf-8', 'surrogateescape'), photo_list)
    return Written(
        ann_files=ann_files,
        roots={name: split.root for name, split in dataset.splits.items()},
        photo_list=photo_list,
        num_photos=len(photos),
        num_unlabelled=len(dataset.unlabelled()),
    )
