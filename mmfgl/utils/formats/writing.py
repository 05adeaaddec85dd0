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
    """

    ann_files: dict[str, str]
    roots: dict[str, str]


def write_dataset(dataset: Dataset, out_dir: str | Path) -> Written:
    """Write ``annotations/{train,val,test}.json``.

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
    roots = {name: split.root for name, split in dataset.splits.items()}
    return Written(ann_files, roots)
