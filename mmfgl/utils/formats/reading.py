"""Recognise the layout of a labelled data set, and read it."""

from __future__ import annotations

import os.path as osp
from pathlib import Path

from mmfgl.utils.formats import coco, voc_plan, yolo
from mmfgl.utils.formats.base import Dataset
from mmfgl.utils.formats.voc import read_voc
from mmfgl.utils.formats.yolo_config import find_yolo

_LAYOUTS = {
    'COCO': (coco.find_coco, coco.read_coco_layout, coco.LOOKED_FOR),
    'YOLO': (find_yolo, yolo.read_yolo, yolo.LOOKED_FOR),
    'Pascal VOC': (voc_plan.find_voc, read_voc, voc_plan.LOOKED_FOR),
}


def read_dataset(
    photos: str | Path, labels: str | Path | None = None
) -> Dataset:
    """Read photographs and their boxes as they are; nothing is written.

    Recognised are COCO JSONs (one file, or one a split), Roboflow's COCO
    exports, YOLO folders (``data.yaml`` or ``classes.txt``, txt labels) and
    Pascal VOC (XML). Boxes, names and sizes are checked by
    :mod:`mmfgl.utils.audit`; what is repaired, left out or odd is told in
    ``notes``.

    Args:
        photos: Folder of the photographs, or of the whole data set, or the
            ``data.yaml`` of a YOLO data set.
        labels: Annotation file or folder; ``None`` if it is found in
            ``photos``.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: Nothing is recognised, or more than one layout, or the
            labels are not what they seem; names files and lines.
    """
    photos = Path(osp.abspath(photos))
    labels = None if labels is None else Path(osp.abspath(labels))
    for path in filter(None, (photos, labels)):
        if not path.exists():
            raise FileNotFoundError(f'{path} does not exist')
    if photos.is_file():
        if labels is not None or photos.suffix not in ('.yaml', '.yml'):
            raise ValueError(
                f'{photos} is a file: give the folder of the photographs'
            )
        photos, labels = photos.parent, photos
    found = {}
    for name, (find, read, _) in _LAYOUTS.items():
        plan = find(photos, labels)
        if plan is not None:
            found[name] = (read, plan)
    if len(found) > 1:
        raise ValueError(
            f'{labels or photos} looks like {" and ".join(found)}: give the '
            'annotation file or folder that is meant as labels'
        )
    if not found:
        looked = [text for _, _, texts in _LAYOUTS.values() for text in texts]
        lines = ''.join(f'\n  - {text}' for text in looked)
        raise ValueError(
            f'no labels recognised in {labels or photos}; looked for:{lines}'
        )
    ((read, plan),) = found.values()
    return read(photos, plan)
