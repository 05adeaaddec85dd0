"""The score from which a detector's boxes are best shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from mmcv.ops import nms

from mmfgl.evaluation.matching import MATCH_IOU, ImageBoxes, greedy_match

#: IoU from which two shown boxes are one, whatever their classes.
SHOWN_IOU = 0.6


@dataclass
class ScoreThreshold:
    """The score threshold of highest F1, and the F1 of every other one.

    T different scores, the highest first.
    """

    score: float  # show what scores as much or more
    f1: float
    precision: float
    recall: float
    scores: np.ndarray  # (T,)
    f1_of_scores: np.ndarray  # (T,) F1 of each as the threshold


def best_score_threshold(images: Iterable[ImageBoxes]) -> ScoreThreshold:
    """Find the score threshold that maximises F1 over a set of images.

    A prediction is right if it matches an object of its class at IoU 0.5,
    greedily by score; in a crowd region of its class it does not count. Give
    what is to be shown: :func:`without_duplicates` first, if boxes are drawn
    after class-agnostic NMS. Without objects or predictions nothing is shown:
    the score is 1 and F1 is 0.
    """
    columns = [(np.zeros(0), np.zeros(0, dtype=bool))]
    num_objects = 0
    for image in images:
        right, counts = sort_predictions(image)
        columns.append((image.scores[counts], right[counts]))
        num_objects += len(image.gt_boxes)
    scores, right = (np.concatenate(parts) for parts in zip(*columns))
    order = np.argsort(-scores, kind='stable')
    scores, hits = scores[order], np.cumsum(right[order])
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # of equal scores
    scores, hits, shown = scores[last], hits[last], last + 1
    if num_objects == 0 or not hits.any():
        none = np.zeros(len(scores))
        return ScoreThreshold(1.0, 0.0, 0.0, 0.0, scores, none)
    f1 = 2 * hits / (shown + num_objects)
    best = int(f1.argmax())
    return ScoreThreshold(
        score=float(scores[best]),
        f1=float(f1[best]),
        precision=float(hits[best] / shown[best]),
        recall=float(hits[best] / num_objects),
        scores=scores,
        f1_of_scores=f1,
    )


def sort_predictions(image: ImageBoxes) -> tuple[np.ndarray, np.ndarray]:
    """Which of an image's P predictions are right, and which count.

    Returns:
        ``right``: (P,) bool, an object of the class was found; ``counts``:
        (P,) bool, it is right or wrong, not in a crowd region.
    """
    same = image.labels[:, None] == image.gt_labels[None]
    right = greedy_match(image.ious() * same, MATCH_IOU) >= 0
    crowd = image.labels[:, None] == image.crowd_labels[None]
    crowd = crowd & (image.crowd_overlaps() >= MATCH_IOU)
    return right, right | ~crowd.any(axis=1)


def without_duplicates(
    image: ImageBoxes, iou: float = SHOWN_IOU
) -> ImageBoxes:
    """Keep the best of predictions that overlap, whatever their classes.

    Look-alike classes are often found in one place. ``iou`` in (0, 1] is the
    overlap above which a prediction goes (class-agnostic NMS).
    """
    if len(image.boxes) == 0:
        return image
    _, kept = nms(
        torch.as_tensor(image.boxes).float(),
        torch.as_tensor(image.scores).float(),
        iou,
    )
    return select_predictions(image, np.sort(kept.numpy()))


def select_predictions(image: ImageBoxes, kept: np.ndarray) -> ImageBoxes:
    """An image with some of its predictions, by index or (P,) mask."""
    return replace(
        image,
        boxes=image.boxes[kept],
        scores=image.scores[kept],
        labels=image.labels[kept],
    )
