"""The audit of one annotation file."""

from __future__ import annotations

import hashlib
import json
import os.path as osp
from typing import NamedTuple

from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.audit.annotations import mend_annotations
from mmfgl.utils.audit.classes import check_masks, compare_names
from mmfgl.utils.audit.ids import (
    mend_annotation_ids,
    mend_category_names,
    mend_entries,
    repeated,
)
from mmfgl.utils.audit.images import mend_images
from mmfgl.utils.audit.objects import count_objects
from mmfgl.utils.audit.reading import read_coco
from mmfgl.utils.audit.report import AuditReport


class Use(NamedTuple):
    """An annotation file, and what is read of it."""

    path: str
    folder: str | None  # of the images; None if they are not on this disk
    classes: tuple[str, ...] | None = None  # None for all
    labels: bool = True  # whether boxes are used
    train: bool = True
    masks: bool = False
    turned: bool = True  # whether the loader turns images by their EXIF
    min_size: int = 0  # of images, pixels
    filter_empty: bool = False


def audit_coco(use: Use) -> tuple[dict, AuditReport]:
    """Audit one annotation file and mend what can be computed.

    Returns:
        The mended content and the findings. After errors the content is of
        no use.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not in COCO format.
    """
    report = AuditReport(use.path)
    content = read_coco(use.path, report, use.labels or not use.train)
    audit_content(content, use, report)
    return content, report


def audit_content(content: dict, use: Use, report: AuditReport) -> None:
    """Audit annotations that are read already, and mend them in place.

    Args:
        content: A dict with the lists of dicts of :func:`read_coco`.
        use: What is read of it.
        report: Takes the findings.
    """
    needs_labels = use.labels or not use.train
    images = mend_entries(content, 'images', report)
    categories = mend_entries(content, 'categories', report)
    mend_images(content, use.folder, report, use.turned)
    mend_annotations(content, images, categories, report)
    if report.findings('error'):
        return
    mend_annotation_ids(content, report)
    mend_category_names(content, report)
    if report.findings('error'):
        return
    if use.classes is not None and needs_labels:
        compare_names(content['categories'], use.classes, report)
    if report.findings('error'):  # the counts would repeat it
        return
    for ann in repeated(content) if use.labels else ():
        text = 'objects listed again, same image, class and box: each counts'
        report.add('warning', text, ann)
    count_objects(content, use.classes, report, use.labels, use.train)
    if use.masks:
        check_masks(content, use.classes, report)
    if use.train:
        _count_images(content, use, report)


def _count_images(content: dict, use: Use, report: AuditReport) -> None:
    """Images that ``CocoDataset.filter_data`` leaves out."""
    names = {c['id']: c['name'] for c in content['categories']}
    wanted = set(names.values() if use.classes is None else use.classes)
    with_objects = {
        ann['image_id']
        for ann in content['annotations']
        if names.get(ann['category_id']) in wanted
    }
    small = without = 0
    for image in content['images']:
        if use.filter_empty and image['id'] not in with_objects:
            without += 1
        elif min(image['width'], image['height']) < use.min_size:
            small += 1
    for number, why in (
        (without, 'without an object (filter_empty_gt)'),
        (small, f'smaller than min_size={use.min_size}'),
    ):
        if number:
            report.left_out_images[why] = number
    if without + small == len(content['images']):
        images = report.left_out_images.items()
        why = ', '.join(f'{number} {reason}' for reason, number in images)
        text = f'no image is left to train on: {why or "the file lists none"}'
        report.tell('error', text)


def write_mended(content: dict, path: str, folder: str) -> str:
    """Write mended annotations beside others, named by their content.

    Args:
        content: The annotations.
        path: The file that they are from; it stays as it is.
        folder: Where to write.

    Returns:
        Absolute path of the file.
    """
    data = json.dumps(content, separators=(',', ':')).encode('ascii')
    stem = osp.splitext(osp.basename(path))[0]
    name = f'{stem}.{hashlib.sha256(data).hexdigest()[:12]}.json'
    target = osp.abspath(osp.join(folder, name))
    if not osp.isfile(target) or osp.getsize(target) != len(data):
        write_atomically(data, target)
    return target
