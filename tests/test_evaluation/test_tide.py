import numpy as np
import pytest

from mmfgl.evaluation import (
    ERROR_TYPES,
    ImageBoxes,
    MatchStatistics,
    greedy_match,
    tide_report,
)

BOX = (10, 10, 30, 30)  # 20 px a side
SHIFTED = (18, 10, 38, 30)  # IoU 3/7 with BOX
SLIGHTLY = (12, 10, 32, 30)  # IoU 9/11 with BOX
FAR = (60, 60, 80, 80)
OTHER = (60, 10, 80, 30)


def image(predictions=(), objects=(), crowd=()):
    """Predictions (box, score, label), objects and crowds (box, label)."""
    predictions = sorted(predictions, key=lambda p: -p[1])

    def columns(rows):
        boxes = np.array([r[0] for r in rows], float).reshape(-1, 4)
        return boxes, np.array([r[-1] for r in rows], int)

    boxes, labels = columns(predictions)
    scores = np.array([p[1] for p in predictions], float)
    truth = *columns(objects), *columns(crowd)
    return ImageBoxes(boxes, scores, labels, *truth, size=(100, 50))


RIGHT = (BOX, 0.8, 0)
BACKGROUND = dict(bkg=(1, 0.5))
ONE, TWO = [(BOX, 0)], [(BOX, 0), (OTHER, 0)]
CROWD = [((50, 50, 100, 100), 0)]


@pytest.mark.parametrize(
    ('images', 'ap', 'errors'),
    [
        # all right
        ([image([(SLIGHTLY, 0.9, 0)], ONE)], 1, {}),
        # the class of the object has AP 0, the other no object, hence no AP
        ([image([(BOX, 0.9, 1)], ONE)], 0, dict(cls=(1, 1))),
        ([image([(SHIFTED, 0.9, 0)], ONE)], 0, dict(loc=(1, 1))),
        # mending 'both' means removing it: the object is still missed
        ([image([(SHIFTED, 0.9, 1)], ONE)], 0, dict(both=(1, 0), miss=(1, 1))),
        # recall above 1/2 (50 of 101 steps) has precision 2/3
        (
            [image([(BOX, 0.9, 0), (SLIGHTLY, 0.8, 0), (OTHER, 0.7, 0)], TWO)],
            (51 + 50 * 2 / 3) / 101,
            dict(dupe=(1, 50 / 3 / 101)),
        ),
        ([image([RIGHT, (FAR, 0.9, 0)], ONE)], 0.5, BACKGROUND),
        # on an image without objects
        ([image([RIGHT], ONE), image([(FAR, 1, 0)])], 0.5, BACKGROUND),
        # class 0: recall 1/2; class 1: AP 0; without the missed objects class
        # 0 is perfect and class 1 is gone
        (
            [image([(BOX, 0.9, 0)], TWO), image([], [(BOX, 1)])],
            51 / 101 / 2,
            dict(miss=(2, 1 - 51 / 101 / 2)),
        ),
        # only the best error of an object becomes right: the loc error comes
        # first, mending the cls error removes it
        (
            [image([(SHIFTED, 0.9, 0), (BOX, 0.8, 1)], ONE)],
            0,
            dict(loc=(1, 1), cls=(1, 0)),
        ),
        # an error on a found object is only removed
        ([image([RIGHT, (SHIFTED, 0.9, 0)], ONE)], 0.5, dict(loc=(1, 0.5))),
        # a duplicate of its own class that also lies on another class's
        # object: cls is asked before dupe
        ([image([RIGHT, RIGHT], [*ONE, (BOX, 1)])], 0.5, dict(cls=(1, 0.5))),
        # crowd regions hold no errors of their class
        ([image([RIGHT, (FAR, 0.9, 0)], ONE, CROWD)], 1, {}),
        ([image([RIGHT, (FAR, 0.9, 1)], ONE, CROWD)], 1, dict(bkg=(1, 0))),
        ([image([(FAR, 0.9, 0)], [], CROWD)], -1, {}),
        # nothing predicted
        ([image([], [(BOX, 0), (FAR, 1)])], 0, dict(miss=(2, 1))),
    ],
)
def test_counts_and_costs(images, ap, errors):
    report = tide_report(images, 2)
    assert report.ap == pytest.approx(ap)
    for kind in ERROR_TYPES:
        count, dap = errors.get(kind, (0, 0))
        assert report.counts[kind] == count, kind
        assert report.dap[kind] == pytest.approx(dap), kind


@pytest.mark.parametrize('images', [[], [image()], [image([(BOX, 0.5, 0)])]])
def test_without_objects_there_is_no_ap(images):
    report = tide_report(images, 3)
    assert report.ap == -1
    assert set(report.dap.values()) == {0.0}
    assert report.counts['bkg'] == sum(len(i.boxes) for i in images)
    assert tide_report([image()], 0).ap == -1  # no class at all


def test_greedy_match():
    overlaps = np.array([[0.6, 0.9], [0.55, 0.8], [0.7, 0.0], [0.49, 0.2]])
    assert greedy_match(overlaps, 0.5).tolist() == [1, 0, -1, -1]
    assert greedy_match(np.zeros((2, 0)), 0.5).tolist() == [-1, -1]
    assert greedy_match(np.zeros((0, 2)), 0.5).tolist() == []


def test_match_statistics():
    predictions = [(SLIGHTLY, 0.9, 1), RIGHT, (FAR, 0.7, 0)]
    one = image(predictions, [(BOX, 0), (FAR, 0), (OTHER, 1)])
    images = [one, image(), image([(BOX, 0.3, 1)], [], [(BOX, 1)])]
    statistics = MatchStatistics(2).update(images)
    # the first box of the object counts, whatever its class
    assert statistics.confusion.tolist() == [[1, 1, 0], [0, 0, 1]]
    assert statistics.num_objects == 3
    assert statistics.num_matched == 2
    assert statistics.class_accuracy == 0.5
    # x1 and x2 are 2 of 100 px off in one of two boxes
    assert statistics.box_mse == pytest.approx(2 * 0.02**2 / 8)
    # of nothing
    statistics = MatchStatistics(2).update([image([], [(BOX, 1)])])
    assert statistics.num_matched == 0
    assert statistics.class_accuracy == statistics.box_mse == -1
    assert MatchStatistics(0).update([image()]).num_objects == 0
