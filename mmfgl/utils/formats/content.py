"""COCO content of labels that lie in a file an image."""

from __future__ import annotations

import itertools
import os.path as osp
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmfgl.utils.audit import AuditReport
from mmfgl.utils.audit.headers import Header, read_headers


class Labelled(NamedTuple):
    """An image and its objects."""

    path: str  # absolute
    size: tuple[int, int]  # (width, height) in pixels
    # class index, box (x, y, width, height) in pixels, whether a crowd region
    objects: list[tuple[int, list[float], bool]]


def readable_headers(
    photos: Path, paths: Sequence[str], report: AuditReport
) -> dict[str, Header]:
    """Headers of images by absolute path; others are told and left out."""
    headers = {}
    found = read_headers(str(photos), paths)
    for path, header in zip(paths, found, strict=True):
        if header is None:
            text = 'images that are listed and missing: left out'
            report.add('warning', text, path)
        elif not header.width:
            text = 'files that are no readable image: left out'
            report.add('warning', text, path)
        else:
            headers[path] = header
    return headers


def to_content(
    parts: Mapping[str, Sequence[Labelled]], classes: Sequence[str]
) -> dict[str, tuple[dict, str]]:
    """COCO dict and image folder of each part; ids are unique over all.

    Coordinates are rounded to 0.0001 px.
    """
    image_ids, ann_ids = itertools.count(1), itertools.count(1)
    names = list(enumerate(classes, 1))
    contents = {}
    for part, labelled in parts.items():
        content = dict(
            images=[],
            annotations=[],
            categories=[dict(id=i, name=name) for i, name in names],
        )
        folders = {osp.dirname(one.path) for one in labelled}
        root = osp.commonpath(folders) if folders else ''
        for path, (width, height), objects in labelled:
            image_id = next(image_ids)
            name = Path(osp.relpath(path, root)).as_posix()
            image = dict(id=image_id, file_name=name)
            content['images'].append(image | dict(width=width, height=height))
            for index, box, crowd in objects:
                box = [round(value, 4) for value in box]
                ann = dict(
                    id=next(ann_ids),
                    image_id=image_id,
                    category_id=index + 1,
                    bbox=box,
                    area=round(box[2] * box[3], 4),
                    iscrowd=int(crowd),
                )
                content['annotations'].append(ann)
        contents[part] = content, root
    return contents
