"""Errors of a detector by type, and what each costs (TIDE, arXiv 2008.08115).

Shape shorthand: P predictions, G objects of all images, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfgl.evaluation.matching import MATCH_IOU, ImageBoxes, greedy_match

#: Error types, in the order of the paper.
ERROR_TYPES = ('cls', 'loc', 'both', 'dupe', 'bkg', 'miss')
#: Highest IoU of a prediction on background.
BACKGROUND_IOU = 0.1


@dataclass
class TideReport:
    """Errors of a detector at IoU 0.5."""

    ap: float  # AP50 in [0, 1]; -1 if there is no object
    counts: dict[str, int]  # errors of each type
    dap: dict[str, float]  # what AP would gain were a type's errors mended


def tide_report(images: Sequence[ImageBoxes], num_classes: int) -> TideReport:
    """Sort every error into one type and weigh the types.

    A prediction that matches no object of its class is, in this order,

    - ``loc``: of the right class, IoU from 0.1 to 0.5;
    - ``cls``: on an object of another class, IoU >= 0.5;
    - ``dupe``: on an object of its class that a better one has matched;
    - ``bkg``: on nothing, IoU <= 0.1 with every object;
    - ``both``: anything else, so the wrong class and badly placed.

    ``miss`` are objects that no prediction matched and no ``loc`` or ``cls``
    error was meant for. A type is weighed by mending its errors alone: the
    best ``loc`` or ``cls`` error of a free object becomes right, all other
    wrong predictions of the type go, missed objects are not asked for.

    As in the authors' code ``tidecv``, but for classes without any object:
    these have no AP here, as in COCO, and AP 0 there; and predictions in
    crowd regions are no errors.
    """
    none = [np.zeros(0, t) for t in (float, int, object, int, int, bool)]
    columns = [none, *(_sort_errors(image) for image in images)]
    scores, labels, kinds, mended, gt_labels, missed = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    num_gt = np.bincount(gt_labels, minlength=num_classes)
    kept = kinds != 'ignored'
    right = kinds == 'right'
    asked = num_gt > 0
    ap = _mean_ap(scores[kept], labels[kept], right[kept], num_gt, asked)
    counts, dap = {}, {}
    for kind in ERROR_TYPES:
        wrong = kinds == kind
        mend = wrong & (mended >= 0)
        keep = kept & (~wrong | mend)
        new_gt = num_gt
        counts[kind] = int(wrong.sum())
        if kind == 'miss':
            counts[kind] = int(missed.sum())
            new_gt = np.bincount(gt_labels[~missed], minlength=num_classes)
        new_ap = _mean_ap(
            scores[keep],
            np.where(mend, mended, labels)[keep],
            (right | mend)[keep],
            new_gt,
            asked,
        )
        # the 101 recall steps can make a mended AP lower by a hair
        dap[kind] = max(new_ap - ap, 0.0)
    return TideReport(ap, counts, dap)


def _sort_errors(image: ImageBoxes) -> tuple[np.ndarray, ...]:
    """What became of the predictions and objects of one image.

    Returns:
        Of each prediction: score, label, 'right', 'ignored' or the error, and
        the class that it would get if the error were mended, or -1 if it
        would go. Of each object: label, and whether it is a ``miss``.
    """
    iou = image.ious()
    same = image.labels[:, None] == image.gt_labels[None]
    match = greedy_match(iou * same, MATCH_IOU)
    used = np.zeros(len(image.gt_boxes), dtype=bool)
    used[match[match >= 0]] = True
    crowd = image.labels[:, None] == image.crowd_labels[None]
    crowd = crowd & (image.crowd_overlaps() >= MATCH_IOU)

    kinds = np.full(len(iou), 'bkg', dtype=object)
    target = np.full(len(iou), -1)
    if len(used) > 0:
        own, other = iou * same, iou * ~same
        best = own.max(axis=1)
        tests = {
            'loc': (best >= BACKGROUND_IOU) & (best <= MATCH_IOU),
            'cls': other.max(axis=1) >= MATCH_IOU,
            'dupe': (own * used).max(axis=1) >= MATCH_IOU,
            'bkg': iou.max(axis=1) <= BACKGROUND_IOU,
        }
        kinds = np.select(list(tests.values()), list(tests), default='both')
        kinds = kinds.astype(object)
        target = np.where(kinds == 'loc', own.argmax(1), other.argmax(1))
    kinds[crowd.any(axis=1)] = 'ignored'
    kinds[match >= 0] = 'right'

    # only the best prediction meant for a free object can become right
    mended = np.full(len(iou), -1)
    wanted = np.zeros(len(used), dtype=bool)
    for index in np.flatnonzero((kinds == 'loc') | (kinds == 'cls')):
        aim = target[index]
        if not used[aim] and not wanted[aim]:
            wanted[aim] = True
            mended[index] = image.gt_labels[aim]

    missed = ~used & ~wanted
    return image.scores, image.labels, kinds, mended, image.gt_labels, missed


def _mean_ap(
    scores: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray,
    num_gt: np.ndarray,
    asked: np.ndarray,
) -> float:
    """Mean AP over classes, in [0, 1]; -1 without any object.

    Predictions are (P,), ``num_gt`` and ``asked`` (C,): the classes that
    count, unless they have neither objects nor predictions left.
    """
    order = np.argsort(-scores, kind='stable')
    labels, right = labels[order], right[order]
    aps = []
    for label in np.flatnonzero(asked):
        hits = right[labels == label]
        if num_gt[label] > 0:
            aps.append(_average_precision(hits, int(num_gt[label])))
        elif len(hits):
            aps.append(0.0)
    if not asked.any():
        return -1.0
    return float(np.mean(aps)) if aps else 1.0


def _average_precision(hits: np.ndarray, num_gt: int) -> float:
    """COCO's AP: precision, made monotone, at 101 steps of recall."""
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.linspace(0, 1, 101)
    index = np.searchsorted(right / num_gt, steps, side='left')
    return float(np.append(precision, 0.0)[index].mean())
