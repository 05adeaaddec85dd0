"""Annotations: what can be computed is filled in."""

from __future__ import annotations

import math
from typing import Any

from pycocotools import mask as mask_api

from mmfgl.utils.audit.ids import as_number, mend_reference
from mmfgl.utils.audit.report import AuditReport

_NUMBERS = frozenset((int, float))


def mend_annotations(
    content: dict, images: dict, categories: dict, report: AuditReport
) -> None:
    """Fill in what can be computed, in place; other gaps are errors.

    Args:
        content: The annotation file, its images with their sizes.
        images: Image id of each way to write it; see ``mend_entries``.
        categories: The same for category ids.
        report: Takes repairs and errors.
    """
    for ann in content['annotations']:
        mend_reference(ann, 'image_id', images, report)
        mend_reference(ann, 'category_id', categories, report)
        if ann.get('iscrowd') is None:
            text = 'annotations without iscrowd: no crowd regions'
            report.add('repair', text, ann)
            ann['iscrowd'] = 0
        for flag in ('iscrowd', 'ignore'):
            if not isinstance(ann.get(flag, 0), int):
                _mend_flag(ann, flag, report)
        segmentation = ann.get('segmentation')
        if type(segmentation) is list and segmentation:
            _mend_polygon(ann, report)
        box = ann.get('bbox')
        if type(box) is not list or len(box) != 4 or not _finite(box):
            _mend_box(ann, report)
        area = ann.get('area')
        if type(area) not in _NUMBERS or not -1e18 < area < 1e18:
            _mend_area(ann, report)


def _finite(box: list) -> bool:
    return _NUMBERS.issuperset(map(type, box)) and all(map(_in_range, box))


def _in_range(value: float) -> bool:
    return -1e9 < value < 1e9  # false for NaN too


def _as_float(value: Any) -> float:
    """A number in text or not; NaN if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _mend_polygon(ann: dict, report: AuditReport) -> None:
    if _NUMBERS.issuperset(map(type, ann['segmentation'])):
        text = 'segmentations that are one flat list: taken as one polygon'
        report.add('repair', text, ann)
        ann['segmentation'] = [ann['segmentation']]


def _mend_flag(ann: dict, flag: str, report: AuditReport) -> None:
    number = as_number(ann[flag])
    if ann[flag] is None:
        ann[flag] = 0
        text = f'annotations with {flag} null: 0'
    elif type(number) is int:
        ann[flag] = number
        text = f'annotations whose {flag} is a number in text: read so'
    else:
        text = f'annotations whose {flag} is neither 0 nor 1'
        report.add('error', text, f'{ann[flag]!r} of {ann.get("id")!r}')
        return
    report.add('repair', text, ann)


def _mend_box(ann: dict, report: AuditReport) -> None:
    box = ann.get('bbox')
    if isinstance(box, list | tuple) and len(box) == 4:
        numbers = [_as_float(value) for value in box]
        if all(map(_in_range, numbers)):
            text = 'boxes with numbers in text: read as numbers'
            report.add('repair', text, ann)
            ann['bbox'] = numbers
            return
    rle = _encode(ann, report) if not box else None
    if rle is not None:
        ann['bbox'] = mask_api.toBbox(rle).tolist()
        text = 'annotations without bbox: computed from the segmentation'
        report.add('repair', text, ann)
        return
    text = 'boxes that are not four finite numbers x, y, width, height'
    report.add('error', text, ann)
    ann['bbox'] = [0, 0, 0, 0]


def _mend_area(ann: dict, report: AuditReport) -> None:
    text = 'annotations without area: computed'
    number = _as_float(ann.get('area'))
    if math.isfinite(number):
        text = 'areas in text: read as numbers'
    elif (rle := _encode(ann, report)) is not None:
        number = float(mask_api.area(rle))
    else:
        number = ann['bbox'][2] * ann['bbox'][3]
    report.add('repair', text, ann)
    ann['area'] = number


def _encode(ann: dict, report: AuditReport) -> dict | None:
    """Mask of an object as RLE, if it has one and its image is known."""
    shape = ann.get('segmentation')
    if not shape:
        return None
    try:
        image = report.images[ann['image_id']]
        if isinstance(shape, dict) and isinstance(shape['counts'], str):
            return shape
        rle = mask_api.frPyObjects(shape, image['height'], image['width'])
        return mask_api.merge(rle) if isinstance(rle, list) else rle
    except (Exception, SystemError):  # pycocotools' C code checks little
        return None
