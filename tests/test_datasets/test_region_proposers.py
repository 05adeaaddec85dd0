"""Proposers that look at no file: grid, random, mixed, selective search."""

import cv2
import numpy as np
import pytest
import torch

from mmfgl.datasets import (
    GridRegions,
    MixedRegions,
    RandomRegions,
    RegionProposer,
    SelectiveSearchRegions,
)
from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.datasets.region_proposers.box_scores import objectness
from mmfgl.models.layers import pairwise_iou
from mmfgl.registry import TASK_UTILS

# (height, width): usual, portrait, tiny, one pixel wide or high, one pixel
SIZES = [(120, 160), (161, 99), (8, 8), (50, 1), (1, 50), (1, 1)]
GRID = dict(type='mmfgl.GridRegions', cell_sizes=(8, 24, 64))
RANDOM = dict(type='mmfgl.RandomRegions', num_regions=200)
PROPOSERS = [GRID, RANDOM]
PROPOSERS += [dict(type='mmfgl.MixedRegions', proposers=[GRID, RANDOM])]


def propose(config, size, seed=None):
    rng = None if seed is None else np.random.default_rng(seed)
    proposer = TASK_UTILS.build(config)
    assert isinstance(proposer, RegionProposer)
    return proposer.propose(dict(img_shape=size), rng)


def check(boxes, size):
    """(N, 4) boxes with an area, inside the image."""
    assert boxes.dtype == np.float32 and boxes.shape[1:] == (4,)
    assert (boxes >= 0).all() and (boxes[:, 2:] <= size[::-1]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def cover(boxes, size):
    seen = np.zeros(size, dtype=int)
    for x1, y1, x2, y2 in boxes.round().astype(int):
        seen[y1:y2, x1:x2] += 1
    return seen


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('config', PROPOSERS)
@pytest.mark.parametrize('seed', [None, 0])
def test_boxes_lie_inside_the_image(config, size, seed):
    boxes = propose(config, size, seed)
    assert len(boxes) > 0
    check(boxes, size)


@pytest.mark.parametrize('config', PROPOSERS)
def test_randomness_is_that_of_the_generator(config):
    np.random.seed(0)
    size = SIZES[0]
    one, same, other = (propose(config, size, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    # without a generator every call is the same, whatever came before
    proposer = TASK_UTILS.build(config)
    first = proposer.propose(dict(img_shape=size))
    proposer.propose(dict(img_shape=size), np.random.default_rng(0))
    again, labels, rows = proposer.propose_rows(dict(img_shape=size))
    assert np.array_equal(again, first)
    zeros = np.zeros(len(first), np.int64)
    np.testing.assert_array_equal(labels, zeros, strict=True)
    np.testing.assert_array_equal(rows, zeros - 1, strict=True)
    # the global generator is left alone
    after = np.random.rand()
    np.random.seed(0)
    assert np.random.rand() == after


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('cell', [1, 7, 24, 500])
def test_each_scale_of_the_grid_covers_the_image(size, cell):
    boxes = propose(dict(type=GridRegions, cell_sizes=(cell,)), size)
    assert (boxes[:, 2:] - boxes[:, :2] == min(cell, *size)).all()
    assert cover(boxes, size).min() >= 1
    assert len(np.unique(boxes, axis=0)) == len(boxes)


def test_cells_of_the_grid():
    boxes = propose(dict(type=GridRegions, cell_sizes=(20,)), (60, 80))
    assert len(boxes) == 5 * 7  # they overlap by half
    assert (cover(boxes, (60, 80))[10:-10, 10:-10] == 4).all()
    # too large, the three default sizes become the image's shorter side
    boxes = propose(dict(type=GridRegions), (100, 130))
    assert boxes.tolist() == [[0, 0, 100, 100], [30, 0, 130, 100]]
    # a generator shuffles them
    plain, mixed = propose(GRID, (96, 128)), propose(GRID, (96, 128), 0)
    assert not np.array_equal(plain, mixed)
    assert sorted(plain.tolist()) == sorted(mixed.tolist())


def test_random_boxes_keep_scale_and_ratio():
    config = dict(type=RandomRegions, num_regions=4000)
    boxes = propose(config, (300, 400), 0).astype(np.float64)
    assert len(boxes) == 4000
    assert (cover(boxes, (300, 400)) > 0).mean() > 0.99
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    assert (width / height).max() <= 2 + 1e-3
    scale = np.sqrt(width * height) / 300
    assert 0.1 - 1e-4 <= scale.min() < scale.max() <= 0.8 + 1e-4
    # log-uniform: half of the boxes lie below the geometric mean
    assert np.mean(scale < np.sqrt(0.1 * 0.8)) == pytest.approx(0.5, abs=0.05)
    assert np.mean(width < height) == pytest.approx(0.5, abs=0.05)


class Fixed(RegionProposer):
    """Boxes that tell their proposer and rank."""

    def __init__(self, number, count):
        self.boxes = np.full((count, 4), number, np.float32)
        self.boxes[:, 1] = np.arange(count)

    def propose(self, info, rng=None):
        return self.boxes

    def propose_rows(self, info, rng=None):
        labels, rows = self.boxes[:, :2].T.astype(np.int64)
        return self.boxes, labels, rows


@pytest.mark.parametrize('counts', [(30, 30), (3, 30, 0), (0, 0)])
def test_mixed_proposers_take_turns_until_they_run_out(counts):
    fixed = [dict(type=Fixed, number=i, count=n) for i, n in enumerate(counts)]
    mixed = MixedRegions(fixed)
    boxes, labels, rows = mixed.propose_rows(dict(img_shape=(100, 100)))
    assert boxes.shape == (sum(counts), 4)
    assert boxes.dtype == np.float32
    assert np.array_equal(boxes[:, 0], labels)
    assert np.array_equal(boxes[:, 1], rows)
    for number, count in enumerate(counts):
        own = boxes[labels == number, 1]
        assert own.tolist() == list(range(count))  # each keeps its order
        taken = (labels[: 2 * min(counts[:2])] == number).sum()
        assert taken == min(count, *counts[:2])


def test_settings_out_of_range():
    search = SelectiveSearchRegions
    wrong = [(GridRegions, 'cell_sizes', c) for c in ((), (0, 4))]
    wrong += [
        (RandomRegions, 'num_regions', 0),
        (MixedRegions, 'proposers', []),
    ]
    wrong += [(search, 'mode', 'slow'), (search, 'max_regions', 0)]
    for cls, name, value in wrong:
        with pytest.raises(ValueError, match=name):
            cls(**{name: value})


OBJECT = (60, 80, 120, 160)


def picture(size=(300, 240), box=OBJECT):
    """A textured object on a noisy background, (H, W, 3)."""
    rng = np.random.default_rng(0)
    img = rng.integers(90, 110, (*size, 3)).astype(np.uint8)
    x1, y1, x2, y2 = box
    img[y1:y2, x1:x2] = rng.integers(0, 60, (y2 - y1, x2 - x1, 3))
    img[y1:y2, x1:x2, 2] += 150
    # few superpixels: the search is quadratic in them
    return cv2.blur(img, (9, 9))


def ious(boxes, box=OBJECT):
    one = torch.tensor(np.array([box], np.float32))
    return pairwise_iou(torch.from_numpy(boxes), one)[:, 0].numpy()


def test_objectness():
    # half of the object, too large, a corner of it, background
    others = [[60, 80, 120, 120], [40, 60, 160, 200], [90, 120, 150, 200]]
    others += [[150, 20, 200, 70]]
    scores = objectness(picture(), np.array([OBJECT, *others], np.float32))
    assert scores.argmax() == 0
    assert 0 <= scores[4] == scores.min() < scores.max() <= 1
    # an even image, no boxes, an empty one
    img = np.full((40, 40, 3), 7, np.uint8)
    assert objectness(img, np.zeros((0, 4))).shape == (0,)
    boxes = np.array([[0, 0, 40, 40], [0, 0, 0, 0], [39, 39, 40, 40]])
    assert np.isfinite(objectness(img, boxes.astype(np.float32))).all()


@pytest.mark.skipif(
    not hasattr(cv2, 'ximgproc'), reason='OpenCV without contrib modules'
)
class TestSelectiveSearch:
    INFO = dict(img=picture(), img_shape=(300, 240))

    def test_finds_the_object_in_original_pixels(self):
        proposer = TASK_UTILS.build(dict(type='mmfgl.SelectiveSearchRegions'))
        boxes = proposer.propose(self.INFO)
        check(boxes, (300, 240))
        assert 3 < len(boxes) <= 50
        assert ious(boxes[:3]).max() > 0.65
        np.testing.assert_array_equal(proposer.propose(self.INFO), boxes)
        # the frame is that of img_shape, whatever the size of the pixels
        half = dict(img=picture()[::2, ::2], img_shape=(300, 240))
        assert ious(proposer.propose(half)[:3]).max() > 0.65

        few = SelectiveSearchRegions(max_regions=3).propose(self.INFO)
        np.testing.assert_array_equal(few, boxes[:3])
        # plausible and distinct
        sides = boxes[:, 2:] - boxes[:, :2]
        assert sides.min() >= 0.03 * 240
        assert sides.prod(axis=1).max() <= 0.61 * 240 * 300
        assert (sides.max(axis=1) / sides.min(axis=1)).max() <= 4.1
        for i, box in enumerate(boxes):
            assert (ious(boxes[i + 1 :], box) <= 0.71).all()

    def test_loads_the_file(self, tmp_path):
        path = str(tmp_path / 'x.png')
        cv2.imwrite(path, picture())
        proposer = SelectiveSearchRegions(mode='single')
        np.testing.assert_array_equal(
            proposer.propose(dict(img_path=path, img_shape=(300, 240))),
            proposer.propose(self.INFO),
        )
        with pytest.raises(UnreadableImageError, match=r'absent\.png'):
            proposer.propose(dict(img_path='absent.png', img_shape=(9, 9)))

    @pytest.mark.parametrize('size', [(1, 1), (1, 600), (60, 2), (20, 20)])
    def test_tiny_and_even_images(self, size):
        info = dict(img=np.zeros((*size, 3), np.uint8), img_shape=size)
        check(SelectiveSearchRegions().propose(info), size)


def test_message_without_contrib(monkeypatch):
    monkeypatch.delattr(cv2, 'ximgproc', raising=False)
    with pytest.raises(ImportError, match=r'contrib-python-headless==\d+\.'):
        SelectiveSearchRegions()
