"""Proposers that read pixels or files, and mixtures."""

import json

import cv2
import numpy as np
import pytest
import torch

from mmfgl.datasets import (
    FileRegions,
    GridRegions,
    MixedRegions,
    RandomRegions,
    RegionProposer,
    SelectiveSearchRegions,
)
from mmfgl.datasets.region_proposers import selective_search
from mmfgl.datasets.region_proposers.box_ops import (
    first_distinct,
    plausible_boxes,
)
from mmfgl.datasets.region_proposers.box_scores import objectness
from mmfgl.models.layers.boxes import pairwise_iou
from mmfgl.registry import TASK_UTILS

needs_contrib = pytest.mark.skipif(
    not hasattr(cv2, 'ximgproc'), reason='OpenCV without contrib modules'
)
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


def best_iou(boxes, box=OBJECT):
    one = torch.tensor(np.array([box], np.float32))
    return pairwise_iou(torch.from_numpy(boxes), one)[:, 0].numpy()


class TestBoxOps:
    def test_plausible(self):
        boxes = np.array(
            [
                [0, 0, 50, 50],
                [0, 0, 2, 50],  # thin
                [0, 0, 100, 90],  # nearly the image
                [0, 0, 60, 10],  # long
                [0, 0, 4, 4],  # small
                [5, 5, 5, 5],  # empty
            ],
            np.float32,
        )
        keep = plausible_boxes(boxes, (100, 100), 0.05, 0.6, 4)
        assert keep.tolist() == [True] + [False] * 5
        assert plausible_boxes(np.zeros((0, 4)), (10, 10)).shape == (0,)

    def test_first_distinct(self):
        boxes = np.array(
            [[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 0, 10, 5]],
            np.float32,
        )
        assert first_distinct(boxes, 0.7).tolist() == [0, 2, 3]
        assert first_distinct(boxes, 0.4).tolist() == [0, 2]
        assert first_distinct(boxes, 0.95, 2).tolist() == [0, 1]
        assert first_distinct(boxes[:0], 0.5).tolist() == []


class TestObjectness:
    def test_the_object_wins(self):
        boxes = np.array(
            [
                OBJECT,
                [60, 80, 120, 120],  # half of it
                [40, 60, 160, 200],  # too large
                [90, 120, 150, 200],  # a corner of it
                [150, 20, 200, 70],  # background
            ],
            np.float32,
        )
        scores = objectness(picture(), boxes)
        assert scores.argmax() == 0
        assert scores[4] == scores.min()
        assert scores.min() >= 0
        assert scores.max() <= 1

    def test_even_and_empty(self):
        img = np.full((40, 40, 3), 7, np.uint8)
        assert objectness(img, np.zeros((0, 4))).shape == (0,)
        boxes = np.array([[0, 0, 40, 40], [0, 0, 0, 0], [39, 39, 40, 40]])
        assert np.isfinite(objectness(img, boxes.astype(np.float32))).all()


@needs_contrib
class TestSelectiveSearch:
    def test_finds_the_object_in_original_pixels(self):
        proposer = TASK_UTILS.build(
            dict(type='mmfgl.SelectiveSearchRegions', max_side=128)
        )
        boxes = proposer.propose(dict(img=picture(), img_shape=(300, 240)))
        assert boxes.dtype == np.float32
        assert 0 < len(boxes) <= 50
        assert best_iou(boxes[:3]).max() > 0.65
        assert (boxes >= 0).all()
        assert (boxes[:, 2:] <= [240, 300]).all()
        # the frame is that of img_shape, whatever the size of the pixels
        half = dict(img=picture()[::2, ::2], img_shape=(300, 240))
        assert best_iou(proposer.propose(half)[:3]).max() > 0.65

    def test_loads_the_file(self, tmp_path):
        path = str(tmp_path / 'x.png')
        cv2.imwrite(path, picture())
        info = dict(img_path=path, img_shape=(300, 240))
        proposer = SelectiveSearchRegions(mode='single')
        expected = proposer.propose(dict(info, img=picture()))
        np.testing.assert_array_equal(proposer.propose(info), expected)
        with pytest.raises(FileNotFoundError, match=r'absent\.png'):
            proposer.propose(dict(img_path='absent.png', img_shape=(9, 9)))

    def test_is_reproducible(self):
        info = dict(img=picture(), img_shape=(300, 240))
        ranked = SelectiveSearchRegions(mode='single')
        mixed = SelectiveSearchRegions(mode='single', rank='random')
        for proposer in (ranked, mixed):
            one, two = proposer.propose(info), proposer.propose(info)
            np.testing.assert_array_equal(one, two)
        rngs = [np.random.default_rng(seed) for seed in (1, 1, 2)]
        one, same, other = (mixed.propose(info, rng) for rng in rngs)
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)

    def test_limits(self):
        info = dict(img=picture(), img_shape=(300, 240))
        options = dict(max_regions=7, min_side=0.1, max_area=0.3, max_iou=0.5)
        boxes = SelectiveSearchRegions(**options).propose(info)
        sides = boxes[:, 2:] - boxes[:, :2]
        assert 1 < len(boxes) <= 7
        assert sides.min() >= 0.09 * 240
        assert sides.prod(axis=1).max() <= 0.31 * 240 * 300
        for i, box in enumerate(boxes):
            assert (best_iou(boxes[i + 1 :], box) <= 0.51).all()

    @pytest.mark.parametrize('size', [(1, 1), (1, 60), (60, 2), (20, 20)])
    def test_tiny_and_even_images(self, size):
        info = dict(img=np.zeros((*size, 3), np.uint8), img_shape=size)
        boxes = SelectiveSearchRegions().propose(info)
        assert boxes.dtype == np.float32
        assert boxes.shape[1:] == (4,)


def test_message_without_contrib(monkeypatch):
    monkeypatch.delattr(selective_search.cv2, 'ximgproc', raising=False)
    with pytest.raises(
        ImportError, match=r'opencv-contrib-python-headless==\d+\.\d+'
    ):
        SelectiveSearchRegions()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mode='slow'), 'mode'),
        (dict(rank='search'), 'rank'),
        (dict(max_side=0), 'max_side'),
        (dict(max_regions=0), 'max_regions'),
    ],
)
def test_selective_search_settings(options, message):
    with pytest.raises(ValueError, match=message):
        SelectiveSearchRegions(**options)


def coco_file(path, scores=True):
    images = [
        dict(id=7, file_name='a/1.jpg', width=100, height=80),
        dict(id=3, file_name='b/1.jpg', width=100, height=80),
        dict(id=5, file_name='2.jpg', width=100, height=80),
    ]
    rows = [
        (7, 4, 0.1, [0, 0, 10, 10]),
        (3, 9, 0.5, [5, 5, 20, 20]),
        (7, 9, 0.9, [10, 20, 30, 40]),
        (7, 4, 0.9, [1, 1, 50, 50]),
    ]
    annotations = [
        dict(id=i, image_id=image, category_id=category, bbox=box)
        | (dict(score=score) if scores else {})
        for i, (image, category, score, box) in enumerate(rows)
    ]
    categories = [dict(id=4, name='x'), dict(id=9, name='y')]
    content = dict(
        images=images, annotations=annotations, categories=categories
    )
    path.write_text(json.dumps(content))
    return str(path)


class TestFileRegions:
    SHAPE = (80, 100)

    def info(self, path, shape=SHAPE):
        return dict(img_path=path, img_shape=shape)

    def test_boxes_and_labels_by_score(self, tmp_path):
        config = dict(
            type='mmfgl.FileRegions', ann_file=coco_file(tmp_path / 'r.json')
        )
        proposer = TASK_UTILS.build(config)
        boxes, labels = proposer.propose_labelled(self.info('/x/a/1.jpg'))
        expected = [[10, 20, 40, 60], [1, 1, 51, 51], [0, 0, 10, 10]]
        assert boxes.tolist() == expected
        assert boxes.dtype == np.float32
        assert labels.tolist() == [1, 0, 0]
        assert labels.dtype == np.int64
        # the file name is the end of the path, so folders tell files apart
        other = proposer.propose(self.info('/x/b/1.jpg'))
        assert other.tolist() == [[5, 5, 25, 25]]
        empty, labels = proposer.propose_labelled(self.info('/y/2.jpg'))
        assert empty.shape == (0, 4)
        assert labels.shape == (0,)

    def test_order_of_the_file_without_scores(self, tmp_path):
        proposer = FileRegions(coco_file(tmp_path / 'r.json', scores=False))
        boxes, labels = proposer.propose_labelled(self.info('a/1.jpg'))
        assert boxes[:, 0].tolist() == [0, 10, 1]
        assert labels.tolist() == [0, 1, 0]

    def test_filters(self, tmp_path):
        file = coco_file(tmp_path / 'r.json')
        info = self.info('a/1.jpg')
        assert len(FileRegions(file, min_score=0.5).propose(info)) == 2
        assert len(FileRegions(file, max_regions=1).propose(info)) == 1

    def test_other_frame(self, tmp_path):
        proposer = FileRegions(coco_file(tmp_path / 'r.json'))
        boxes = proposer.propose(self.info('b/1.jpg', (160, 200)))
        assert boxes.tolist() == [[10, 10, 50, 50]]
        with pytest.raises(ValueError, match='100 x 80 in the region file'):
            proposer.propose(self.info('b/1.jpg', (100, 80)))

    def test_errors(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='propose_regions'):
            FileRegions(str(tmp_path / 'absent.json'))
        for name, text in dict(a='{', b='[]', c='{"images": []}').items():
            (tmp_path / name).write_text(text)
            with pytest.raises(ValueError, match='COCO format'):
                FileRegions(str(tmp_path / name))
        file = coco_file(tmp_path / 'r.json')
        with pytest.raises(KeyError, match=r'3\.jpg.*not in the region file'):
            FileRegions(file).propose(self.info('3.jpg'))
        lenient = FileRegions(file, allow_missing=True)
        assert lenient.propose(self.info('3.jpg')).shape == (0, 4)
        with pytest.raises(ValueError, match='max_regions'):
            FileRegions(file, max_regions=0)

    def test_a_changed_file_is_read_again(self, tmp_path):
        path = tmp_path / 'r.json'
        FileRegions(coco_file(path))
        path.write_text('{"images": [], "annotations": []}')
        with pytest.raises(KeyError):
            FileRegions(str(path)).propose(self.info('2.jpg'))


class Fixed(RegionProposer):
    """Boxes that tell their proposer and rank."""

    def __init__(self, number, count):
        self.number, self.count = number, count

    def propose(self, info, rng=None):
        rank = np.arange(self.count, dtype=np.float32)
        one = np.ones(self.count, np.float32)
        return np.stack([self.number * one, rank, one * 9, one * 99], 1)

    def propose_labelled(self, info, rng=None):
        boxes = self.propose(info, rng)
        return boxes, np.full(len(boxes), self.number)


class TestMixedRegions:
    def mixed(self, counts, shares=None, max_regions=None):
        return MixedRegions(
            [
                dict(type=Fixed, number=i, count=count)
                for i, count in enumerate(counts)
            ],
            shares,
            max_regions,
        ).propose_labelled(dict(img_shape=(100, 100)))

    def test_shares_hold_in_every_start(self):
        boxes, labels = self.mixed((60, 60), (3, 1), 40)
        assert len(boxes) == 40
        assert np.array_equal(boxes[:, 0], labels)
        for end in (4, 8, 20, 40):
            assert (labels[:end] == 0).sum() == end * 3 // 4
        for number in (0, 1):  # each keeps its order
            ranks = boxes[labels == number, 1]
            assert ranks.tolist() == list(range(len(ranks)))

    def test_others_go_on(self):
        _, labels = self.mixed((3, 50, 0), None, 20)
        assert len(labels) == 20
        assert (labels == 0).sum() == 3
        boxes, labels = self.mixed((0, 0))
        assert boxes.shape == (0, 4)
        assert boxes.dtype == np.float32
        assert labels.shape == (0,)

    def test_registered_and_reproducible(self):
        config = dict(
            type='mmfgl.MixedRegions',
            proposers=[
                dict(type='mmfgl.GridRegions', cell_sizes=(20,)),
                dict(type=RandomRegions),
            ],
        )
        proposer = TASK_UTILS.build(config)
        assert isinstance(proposer.proposers[0], GridRegions)
        info = dict(img_shape=(90, 90))
        one, two = proposer.propose(info), proposer.propose(info)
        np.testing.assert_array_equal(one, two)
        rngs = [np.random.default_rng(seed) for seed in (1, 1, 2)]
        one, same, other = (proposer.propose(info, rng) for rng in rngs)
        np.testing.assert_array_equal(one, same)
        assert not np.array_equal(one, other)

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(proposers=[]), 'proposers'),
            (dict(shares=[1.0]), 'shares'),
            (dict(shares=[1.0, 0.0]), 'shares'),
            (dict(max_regions=0), 'max_regions'),
        ],
    )
    def test_settings_out_of_range(self, options, message):
        proposers = [dict(type='mmfgl.RandomRegions')] * 2
        with pytest.raises(ValueError, match=message):
            MixedRegions(**(dict(proposers=proposers) | options))
