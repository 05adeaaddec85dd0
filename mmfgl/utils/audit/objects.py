"""Which objects CocoDataset uses, and boxes that look wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mmfgl.utils.audit.report import AuditReport

TOLERANCE = 2  # pixels that boxes may leave their image by
MANY = 0.1  # share of such boxes that makes another format likely
NOT_USED = 'of classes that the config does not use'
CROWD = 'crowd regions (iscrowd=1), which only mask false positives'


def count_objects(
    content: dict,
    classes: Sequence[str] | None,
    report: AuditReport,
    labels: bool = True,
    train: bool = True,
) -> None:
    """Sort the objects as CocoDataset does.

    Args:
        content: The annotation file, mended.
        classes: Names of the classes in use; ``None`` for all.
        report: Takes the counts in ``objects``, and findings.
        labels: Whether the boxes are used at all.
        train: Whether to train on them, which takes at least one.
    """
    anns = content['annotations']
    boxes = np.array([a['bbox'] for a in anns], float).reshape(-1, 4)
    sizes = np.array([_size(a, report) for a in anns], float).reshape(-1, 2)
    used = np.ones(len(anns), dtype=bool)
    odd = []
    for reason, mask in _reasons(content, classes, boxes, sizes, report):
        mask = mask & used
        used &= ~mask
        report.objects[reason] += int(mask.sum())
        if reason not in (NOT_USED, CROWD):
            odd += [(reason, i) for i in np.flatnonzero(mask)]
    report.objects['used'] = int(used.sum())
    report.objects = +report.objects  # without zeros
    for reason, index in odd if labels else ():
        report.add('warning', f'objects {reason}: left out', anns[index])
        _keep(report, reason, anns[index])
    if labels:
        _leaving(anns, used, boxes, sizes, report)
        _nothing_used(boxes, report, train)
    if labels and train and classes is not None:
        labels_of = {c['id']: c['name'] for c in content['categories']}
        found = {
            labels_of[anns[i]['category_id']] for i in np.flatnonzero(used)
        }
        if found:
            for name in classes:
                if name not in found:
                    text = 'classes without an object to learn from'
                    report.add('warning', text, repr(name))


def _size(ann: dict, report: AuditReport) -> tuple[float, float]:
    image = report.images.get(ann['image_id'])
    return (image['width'], image['height']) if image else (np.nan, np.nan)


def _reasons(
    content: dict,
    classes: Sequence[str] | None,
    boxes: np.ndarray,
    sizes: np.ndarray,
    report: AuditReport,
) -> Iterator[tuple[str, np.ndarray]]:
    """(reason to leave out, mask), as ``CocoDataset.parse_data_info``."""
    anns = content['annotations']
    names = {c['id']: c['name'] for c in content['categories']}
    wanted = set(names.values() if classes is None else classes)

    def mask(values: Iterator[object]) -> np.ndarray:
        return np.fromiter(map(bool, values), bool, len(anns))

    yield 'of images that the file does not list', np.isnan(sizes[:, 0])
    known = mask(a['category_id'] in names for a in anns)
    yield 'of categories that the file does not list', ~known
    yield (
        NOT_USED,
        mask(names.get(a['category_id']) not in wanted for a in anns),
    )
    yield 'marked ignore', mask(a.get('ignore', False) for a in anns)
    start, extent = boxes[:, :2], boxes[:, 2:]
    yield 'of negative width or height', (extent < 0).any(axis=1)
    thin = (extent < 1).any(axis=1)
    inside = np.minimum(start + extent, sizes) - np.maximum(start, 0)
    yield 'outside their image', (inside <= 0).any(axis=1) & ~thin
    yield 'under 1 px wide or high', thin
    area = np.array([a['area'] for a in anns], float)
    text = "with an area of 0 or less (without the key 'area' it is computed)"
    yield text, area <= 0
    yield CROWD, mask(a['iscrowd'] for a in anns)


def _keep(report: AuditReport, reason: str, ann: dict) -> None:
    if len(report.odd) < report.MAX_ODD:
        report.odd.append((reason, ann))


def _leaving(
    anns: list[dict],
    used: np.ndarray,
    boxes: np.ndarray,
    sizes: np.ndarray,
    report: AuditReport,
) -> None:
    """Used boxes that leave their image, or look like another format."""
    start, extent = boxes[:, :2], boxes[:, 2:]
    over = np.maximum(start + extent - sizes, -start).max(axis=1, initial=0)
    leaving = np.flatnonzero(used & (np.nan_to_num(over) > TOLERANCE))
    text = f'boxes that leave their image by more than {TOLERANCE} px'
    half = extent / 2
    readings = {
        'corners x1, y1, x2, y2': (extent > start)
        & (extent <= sizes + TOLERANCE),
        'centres and sizes': (start >= half - TOLERANCE)
        & (start + half <= sizes + TOLERANCE),
    }
    for reading, fits in readings.items():
        if len(leaving) > MANY * used.sum() and fits[used].all():
            text += (
                f': as {reading} all boxes of the file would fit, but COCO '
                'wants x, y, width, height, so convert them'
            )
            break
    far = (start + extent)[used].max(initial=0)
    if used.sum() >= 10 and far <= 100 < sizes[used].min() / 2:
        report.tell(
            'warning',
            'all boxes lie within 100 px of the upper left corner of their '
            'images: if they are percent, convert them to pixels',
        )
    for index in leaving:
        report.add('warning', text, anns[index])
        _keep(report, f'leaves by {over[index]:.0f} px', anns[index])


def _nothing_used(boxes: np.ndarray, report: AuditReport, train: bool) -> None:
    if report.objects['used']:
        return
    total = sum(report.objects.values())
    text = 'the file has no object'
    if total:
        text = f'none of its {total} objects can be used: {report.left_out()}'
        if len(boxes) and ((boxes >= 0) & (boxes <= 1)).all():
            text += (
                '; all coordinates lie between 0 and 1, but they are to be '
                'pixels: multiply them by width and height of the image'
            )
    harmless = report.objects[NOT_USED] + report.objects[CROWD]
    wrong = total - harmless - report.objects['marked ignore']
    report.tell('error' if train or wrong else 'warning', text)
