import numpy as np
import pytest

from mmfgl.evaluation import (
    ImageBoxes,
    best_score_threshold,
    without_duplicates,
)

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]


def image(found, truth=(), crowd=()):
    """Rows of (box, label, score) and (box, label)."""

    def columns(rows):
        boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
        return boxes, np.array([row[1] for row in rows], int)

    boxes, labels = columns(found)
    gt_boxes, gt_labels = columns(truth)
    crowd_boxes, crowd_labels = columns(crowd)
    return ImageBoxes(
        boxes=boxes,
        scores=np.array([row[2] for row in found], float),
        labels=labels,
        gt_boxes=gt_boxes,
        gt_labels=gt_labels,
        crowd_boxes=crowd_boxes,
        crowd_labels=crowd_labels,
        size=(60, 20),
    )


def test_threshold_of_highest_f1():
    first = image([(A, 0, 0.9), (B, 0, 0.4), (C, 0, 0.3)], [(A, 0), (C, 1)])
    second = image([(A, 1, 0.6), (B, 1, 0.2)], [(A, 1), (B, 1)])
    best = best_score_threshold([first, second])
    # 0.9 and 0.6 are right, 0.4 and 0.3 wrong, 0.2 right, of 4 objects
    assert best.score == 0.6
    assert best.f1 == pytest.approx(4 / 6)
    assert best.precision == 1 and best.recall == 0.5
    assert best.scores.tolist() == [0.9, 0.6, 0.4, 0.3, 0.2]
    expected = [2 / 5, 4 / 6, 4 / 7, 4 / 8, 6 / 9]
    assert best.f1_of_scores == pytest.approx(expected)


def test_equal_scores_are_shown_together():
    rows = [(A, 0, 0.5), (B, 0, 0.5), (C, 0, 0.5)]
    best = best_score_threshold([image(rows, [(A, 0)])])
    assert best.scores.tolist() == [0.5]
    assert best.f1 == pytest.approx(2 / 4)


def test_crowd_regions_do_not_count():
    rows = [(A, 0, 0.9), (B, 0, 0.8), (C, 1, 0.7)]
    best = best_score_threshold([image(rows, [(A, 0)], [(B, 0), (C, 0)])])
    assert best.scores.tolist() == [0.9, 0.7]  # C is of another class
    assert best.score == 0.9 and best.f1 == 1


@pytest.mark.parametrize(
    'images', [[], [image([(A, 0, 0.9)])], [image([], [(A, 0)])]]
)
def test_nothing_is_shown_without_a_hit(images):
    best = best_score_threshold(images)
    assert (best.score, best.f1) == (1.0, 0.0)


def test_duplicates_go_whatever_their_class():
    close = [1, 0, 11, 10]  # IoU 9 / 11
    rows = [(A, 0, 0.9), (close, 1, 0.8), (B, 1, 0.7)]
    kept = without_duplicates(image(rows, [(A, 0)]))
    assert kept.scores.tolist() == [0.9, 0.7]
    assert kept.labels.tolist() == [0, 1]
    assert len(kept.gt_boxes) == 1
    assert len(without_duplicates(image(rows), iou=0.9).scores) == 3
    assert len(without_duplicates(image([])).scores) == 0
