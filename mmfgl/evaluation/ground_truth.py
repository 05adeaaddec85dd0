"""Ground truth of COCO files as COCOeval needs it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
from collections.abc import Sequence

from mmdet.datasets.api_wrappers import COCO
from mmengine.fileio import get
from mmengine.logging import print_log


def read_ground_truth(
    path: str, backend_args: dict | None = None, sort_categories: bool = False
) -> COCO:
    """Read a COCO file whose annotations COCOeval would misjudge.

    COCOeval takes annotation id 0 for 'no match' and lets annotations of one
    id replace each other, so unless all ids are whole numbers from 1 on, each
    its own, they are numbered anew; nothing refers to them. ``iscrowd`` is 0
    and ``area`` that of the box where they are missing. Image and category
    ids that are text on one side and a number on the other are matched.

    Args:
        path: The file, local or remote.
        backend_args: Backend of :func:`mmengine.fileio.get`.
        sort_categories: Sort the categories by id.

    Raises:
        ValueError: A box is not four finite numbers, or no annotation belongs
            to an image or a category of the file; names file and annotation.
    """
    content = json.loads(get(path, backend_args).decode('utf-8-sig'))
    annotations = content.setdefault('annotations', [])
    categories = content.setdefault('categories', [])
    if sort_categories:
        categories.sort(key=lambda category: category['id'])
    ids = [annotation.get('id') for annotation in annotations]
    sound = all(type(i) is int and i > 0 for i in ids)
    if not sound or len(set(ids)) < len(ids):
        for number, annotation in enumerate(annotations, start=1):
            annotation['id'] = number
    for annotation, own in zip(annotations, ids, strict=True):
        annotation['bbox'] = _box(annotation, own, path)
        annotation['iscrowd'] = annotation.get('iscrowd') or 0
        if annotation.get('area') is None:
            annotation['area'] = annotation['bbox'][2] * annotation['bbox'][3]
    for key, rows in (('image', content['images']), ('category', categories)):
        _match_ids(annotations, f'{key}_id', [r['id'] for r in rows], path)
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it prints
        coco.createIndex()
    return coco


def _box(annotation: dict, own: object, path: str) -> list[float]:
    """The box of an annotation, as four numbers."""
    box = annotation.get('bbox')
    try:
        box = [v if type(v) is int else float(v) for v in box]
    except (TypeError, ValueError):
        box = []
    if len(box) != 4 or not all(map(math.isfinite, box)):
        raise ValueError(
            f'{path}: annotation {own!r} needs a bbox of four numbers (x, y, '
            f'width, height), got {annotation.get("bbox")!r}'
        )
    return box


def _match_ids(
    annotations: Sequence[dict], key: str, ids: Sequence, path: str
) -> None:
    """Give annotations the ids of images or categories, in place."""
    known, by_text = set(ids), {str(i): i for i in ids}
    strange = 0
    for annotation in annotations:
        own = annotation.get(key)
        if own not in known:
            annotation[key] = by_text.get(str(own), own)
            strange += annotation[key] not in known
    if strange == 0:
        return
    text = (
        f'{path}: {strange} of {len(annotations)} annotations have a {key} '
        f'that the file does not define'
    )
    if strange == len(annotations):
        raise ValueError(f'{text}: nothing could be evaluated')
    print_log(f'{text}: they do not count', 'current', logging.WARNING)


def category_ids(coco: COCO, classes: Sequence[str]) -> list[int]:
    """Category ids of class names, in the order of the classes.

    Of several categories of one name (exporters add a grouping category) the
    one with annotations counts.

    Raises:
        ValueError: The file lacks a class, or has them in another order than
            the data set, so that results would carry wrong names.
    """
    used = {a['category_id'] for a in coco.dataset['annotations']}
    found: dict[str, int] = {}
    for category in coco.dataset['categories']:
        name, number = category['name'], category['id']
        if name in classes and (name not in found or number in used):
            found.pop(name, None)
            found[name] = number
    missing = [repr(name) for name in classes if name not in found]
    if missing:
        have = [repr(c['name']) for c in coco.dataset['categories'][:20]]
        raise ValueError(
            f'the ann_file of the evaluator lacks {len(missing)} of the '
            f'{len(classes)} classes of the data set: '
            f'{", ".join(missing[:20])}; it has {", ".join(have)}'
        )
    if list(found) != list(classes):
        raise ValueError(
            'the classes of the data set are in another order than in the '
            'ann_file of the evaluator; MMDetection numbers them as a file '
            f'does. Use this order: {", ".join(map(repr, found))}'
        )
    return list(found.values())
