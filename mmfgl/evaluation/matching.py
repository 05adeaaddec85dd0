"""Predicted boxes and the objects they match.

P predictions, G objects, K crowd regions of one image, C classes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

#: Least IoU of a prediction and the object it finds.
MATCH_IOU = 0.5


@dataclass
class ImageBoxes:
    """Boxes (x1, y1, x2, y2) of one image, all in original pixels.

    In crowd regions predictions of their class are neither right nor wrong.
    """

    boxes: np.ndarray  # (P, 4) predictions, the highest score first
    scores: np.ndarray  # (P,)
    labels: np.ndarray  # (P,) class indices
    gt_boxes: np.ndarray  # (G, 4)
    gt_labels: np.ndarray  # (G,)
    crowd_boxes: np.ndarray  # (K, 4)
    crowd_labels: np.ndarray  # (K,)
    size: tuple[float, float]  # (width, height) of the image

    def ious(self) -> np.ndarray:
        """(P, G) IoUs of predictions and objects."""
        return _overlaps(self.boxes, self.gt_boxes, crowd=False)

    def crowd_overlaps(self) -> np.ndarray:
        """(P, K) shares of each prediction that lie in a crowd region."""
        return _overlaps(self.boxes, self.crowd_boxes, crowd=True)


def _overlaps(boxes: np.ndarray, others: np.ndarray, crowd: bool):
    """Overlaps as COCO computes them, also of no boxes."""
    if len(boxes) == 0 or len(others) == 0:
        return np.zeros((len(boxes), len(others)))
    sides = [
        np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1).astype(float)
        for b in (boxes, others)
    ]
    return coco_mask.iou(*sides, [int(crowd)] * len(others))


def greedy_match(overlaps: np.ndarray, threshold: float) -> np.ndarray:
    """Give each prediction in turn the best object that is still free.

    ``overlaps`` are (P, G) IoUs, the highest score first, ``threshold`` > 0
    is the least of a match. Gives (P,) indices of objects, -1 for none.
    """
    match = np.full(len(overlaps), -1)
    free = overlaps.copy()
    for index in np.flatnonzero((overlaps >= threshold).any(axis=1)):
        best = int(free[index].argmax())
        if free[index, best] >= threshold:
            match[index] = best
            free[:, best] = 0
    return match


class MatchStatistics:
    """Classes and coordinates of predictions that found an object.

    Predictions are matched with objects greedily by score and whatever the
    classes, so that every object counts once, with the class it was given
    first. Crowd regions are left out.
    """

    def __init__(self, num_classes: int) -> None:
        #: (C, C + 1) counts: true class, predicted class; the last column
        #: counts missed objects.
        self.confusion = np.zeros((num_classes, num_classes + 1), dtype=int)
        self._squared_error = 0.0

    def update(self, images: Iterable[ImageBoxes]) -> 'MatchStatistics':
        """Add images; returns itself."""
        for image in images:
            match = greedy_match(image.ious(), MATCH_IOU)
            found = match >= 0
            objects = match[found]
            given = image.gt_labels[objects], image.labels[found]
            np.add.at(self.confusion, given, 1)
            missed = np.delete(image.gt_labels, objects)
            np.add.at(self.confusion, (missed, -1), 1)
            errors = image.boxes[found] - image.gt_boxes[objects]
            errors = errors / np.tile(image.size, 2)
            self._squared_error += float(np.square(errors).sum())
        return self

    @property
    def num_objects(self) -> int:
        """Number of all objects."""
        return int(self.confusion.sum())

    @property
    def num_matched(self) -> int:
        """Number of objects that were found."""
        return int(self.confusion[:, :-1].sum())

    @property
    def class_accuracy(self) -> float:
        """Share of found objects given their class; -1 if none is found."""
        if self.num_matched == 0:
            return -1.0
        return float(np.trace(self.confusion[:, :-1])) / self.num_matched

    @property
    def box_mse(self) -> float:
        """Mean squared error in shares of the image's sides; -1 if none."""
        if self.num_matched == 0:
            return -1.0
        return self._squared_error / (4 * self.num_matched)
