"""Panels of truth and detections from what tests have left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mmfgl.evaluation import TestResults
from mmfgl.evaluation.matching import ImageBoxes
from mmfgl.evaluation.score_threshold import (
    select_predictions,
    sort_predictions,
)
from mmfgl.reports.pictures import draw_boxes, load_picture


def shown_predictions(results: TestResults, index: int) -> ImageBoxes:
    """What is shown of an image: after NMS, from the threshold on."""
    image = results.shown[index]
    return select_predictions(image, image.scores >= results.threshold.score)


def count_errors(results: TestResults) -> np.ndarray:
    """(I,) wrong predictions and missed objects of what is shown."""
    errors = []
    for index in range(len(results.img_ids)):
        image = shown_predictions(results, index)
        right, counts = sort_predictions(image)
        missed = len(image.gt_boxes) - int(right.sum())
        errors.append(int((counts & ~right).sum()) + missed)
    return np.array(errors, dtype=int)


def choose_images(results: TestResults, count: int) -> list[tuple[str, int]]:
    """Choose images with objects: half typical ones, half the worst ones.

    Returns:
        (why it was chosen, index) pairs. The typical ones are those in the
        middle of equal parts of all images, sorted by their errors.
    """
    errors = count_errors(results)
    images = enumerate(results.images)
    known = [i for i, image in images if len(image.gt_boxes)]
    known.sort(key=lambda i: (errors[i], i))
    if len(known) <= count:
        return [('', index) for index in known]
    worst = known[::-1][: count // 2]
    rest = known[: len(known) - len(worst)]
    parts = count - len(worst)
    middles = np.arange(parts) + 0.5
    typical = [rest[int(m * len(rest) / parts)] for m in middles]
    return [
        *(('typical', index) for index in typical),
        *(('many errors', index) for index in worst),
    ]


def panels(
    results: Sequence[TestResults], index: int, longest: int = 800
) -> Iterator[np.ndarray]:
    """Draw the truth, then what each of several tests shows of an image.

    Args:
        results: Tests on the same images.
        index: Which image.
        longest: Pixels of the longer side.

    Yields:
        (H, W, 3) uint8 RGB arrays. Boxes of wrong predictions are dashed.
    """
    image, (x, y) = load_picture(results[0].paths[index], longest)
    scale = np.array([x, y, x, y])
    names = results[0].classes
    truth = results[0].images[index]
    texts = [names[label] for label in truth.gt_labels]
    yield draw_boxes(image, truth.gt_boxes * scale, truth.gt_labels, texts)
    for result in results:
        found = shown_predictions(result, index)
        right, counts = sort_predictions(found)
        texts = [
            f'{result.classes[label]} {score:.2f}'
            for label, score in zip(found.labels, found.scores, strict=True)
        ]
        dashed = (counts & ~right).tolist()
        boxes = found.boxes * scale
        yield draw_boxes(image, boxes, found.labels, texts, dashed)
