"""Errors of a detector by type, and what each costs (TIDE, arXiv 2008.08115).

Shape shorthand: P predictions, G objects of all images, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmfgl.evaluation.matching import ImageBoxes, greedy_match

#: Error types, in the order of the paper.
ERROR_TYPES = ('cls', 'loc', 'both', 'dupe', 'bkg', 'miss')
_RIGHT, _IGNORED = 'right', 'ignored'


@dataclass
class TideReport:
    """Errors of a detector at one IoU threshold.

    Attributes:
        ap: AP at the threshold in [0, 1]; -1 if there is no object.
        counts: Number of errors of each type.
        dap: What AP would gain were the errors of a type mended, in [0, 1].
    """

    ap: float
    counts: dict[str, int]
    dap: dict[str, float]


@dataclass
class _Ledger:
    """Predictions and objects of all images, as lists of arrays."""

    scores: list = field(default_factory=list)
    labels: list = field(default_factory=list)
    kinds: list = field(default_factory=list)  # _RIGHT, _IGNORED or an error
    mended: list = field(default_factory=list)  # class if mended, or -1
    gt_labels: list = field(default_factory=list)
    missed: list = field(default_factory=list)

    def column(self, name: str, dtype: type) -> np.ndarray:
        """One column over all images."""
        parts = getattr(self, name)
        return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


def tide_report(
    images: Sequence[ImageBoxes],
    num_classes: int,
    threshold: float = 0.5,
    background: float = 0.1,
) -> TideReport:
    """Sort every error into one type and weigh the types.

    A prediction that matches no object of its class is, in this order,

    - ``loc``: of the right class, IoU from ``background`` to ``threshold``;
    - ``cls``: on an object of another class, IoU >= ``threshold``;
    - ``dupe``: on an object of its class that a better one has matched;
    - ``bkg``: on nothing, IoU <= ``background`` with every object;
    - ``both``: anything else, so the wrong class and badly placed.

    ``miss`` are objects that no prediction matched and no ``loc`` or ``cls``
    error was meant for. A type is weighed by mending its errors alone: the
    best ``loc`` or ``cls`` error of a free object becomes right, all other
    wrong predictions of the type go, missed objects are not asked for.

    As in the authors' code ``tidecv``, but for classes without any object:
    these have no AP here, as in COCO, and AP 0 there; and predictions in
    crowd regions are no errors.

    Args:
        images: Predictions and objects.
        num_classes: Number C of classes.
        threshold: Least IoU of a right prediction.
        background: Highest IoU of a prediction on background.

    Returns:
        The report.
    """
    ledger = _Ledger()
    for image in images:
        _sort_errors(ledger, image, threshold, background)
    scores = ledger.column('scores', float)
    labels = ledger.column('labels', int)
    kinds = ledger.column('kinds', object)
    mended = ledger.column('mended', int)
    gt_labels = ledger.column('gt_labels', int)
    missed = ledger.column('missed', bool)

    num_gt = np.bincount(gt_labels, minlength=num_classes)
    kept = kinds != _IGNORED
    right = kinds == _RIGHT
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
            new_gt = num_gt - np.bincount(
                gt_labels[missed], minlength=num_classes
            )
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


def _sort_errors(
    ledger: _Ledger, image: ImageBoxes, threshold: float, background: float
) -> None:
    """Add one image to the ledger."""
    iou = image.ious()
    same = image.labels[:, None] == image.gt_labels[None]
    match = greedy_match(iou * same, threshold)
    used = np.zeros(len(image.gt_boxes), dtype=bool)
    used[match[match >= 0]] = True
    crowd = image.labels[:, None] == image.crowd_labels[None]
    crowd = crowd & (image.crowd_overlaps() >= threshold)
    ignored = (match < 0) & crowd.any(axis=1)

    kinds = np.full(len(iou), 'bkg', dtype=object)
    target = np.full(len(iou), -1)
    if len(used) > 0:
        own, other = iou * same, iou * ~same
        best = own.max(axis=1)
        tests = {
            'loc': (best >= background) & (best <= threshold),
            'cls': other.max(axis=1) >= threshold,
            'dupe': (own * used).max(axis=1) >= threshold,
            'bkg': iou.max(axis=1) <= background,
            'both': np.ones(len(iou), dtype=bool),
        }
        kinds = np.select(list(tests.values()), list(tests), default='both')
        kinds = kinds.astype(object)
        target = np.where(
            kinds == 'loc', own.argmax(axis=1), other.argmax(axis=1)
        )
    kinds[match >= 0] = _RIGHT
    kinds[ignored] = _IGNORED

    # only the best prediction meant for a free object can become right
    mended = np.full(len(iou), -1)
    wanted = np.zeros(len(used), dtype=bool)
    for index in np.flatnonzero((kinds == 'loc') | (kinds == 'cls')):
        aim = target[index]
        if not used[aim] and not wanted[aim]:
            wanted[aim] = True
            mended[index] = image.gt_labels[aim]

    ledger.scores.append(image.scores)
    ledger.labels.append(image.labels)
    ledger.kinds.append(kinds)
    ledger.mended.append(mended)
    ledger.gt_labels.append(image.gt_labels)
    ledger.missed.append(~used & ~wanted)


def _mean_ap(
    scores: np.ndarray,
    labels: np.ndarray,
    right: np.ndarray,
    num_gt: np.ndarray,
    asked: np.ndarray,
) -> float:
    """Mean AP over classes, in [0, 1]; -1 without any object.

    Args:
        scores: (P,) scores.
        labels: (P,) class indices.
        right: (P,) whether a prediction is right.
        num_gt: (C,) number of objects.
        asked: (C,) classes that count, unless they have neither objects nor
            predictions left.
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
    if len(hits) == 0:
        return 0.0
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.linspace(0, 1, 101)
    index = np.searchsorted(right / num_gt, steps, side='left')
    return float(np.append(precision, 0.0)[index].mean())
