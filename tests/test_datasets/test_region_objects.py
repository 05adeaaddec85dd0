"""Pseudo ground truth of TwoRegionViews."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.models import SelfSupDataPreprocessor

from mmfgl.datasets import PackRegionViews, RegionProposer, TwoRegionViews
from mmfgl.datasets.transforms.view_maps import (
    clip_boxes,
    map_boxes,
    visible_share,
)

VIEW = (64, 48)
SIZE = (90, 120)


class Labelled(RegionProposer):
    """Fixed boxes, labelled by their position in the list."""

    def __init__(self, boxes):
        self.boxes = np.asarray(boxes, np.float32).reshape(-1, 4)

    def propose(self, info, rng=None):
        return self.boxes

    def propose_labelled(self, info, rng=None):
        return self.boxes, np.arange(len(self.boxes))


def random_boxes(count=200):
    rng = np.random.default_rng(0)
    corner = rng.uniform(size=(count, 2)) * [90, 60]
    sides = rng.uniform(5, 30, (count, 2))
    return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def cut(boxes, seed=0, **options):
    options = dict(view_size=VIEW, num_regions=4, max_objects=500) | options
    views = TwoRegionViews(
        proposer=dict(type='mmfgl.RandomRegions'),
        object_proposer=dict(type=Labelled, boxes=boxes),
        **options,
    )
    np.random.seed(seed)
    img = np.random.randint(0, 256, (*SIZE, 3), np.uint8)
    return views(dict(img=img, img_path='x.jpg'))


@pytest.mark.parametrize('min_visible', [0.3, 0.8])
def test_exactly_the_visible_boxes_are_kept(min_visible):
    boxes = random_boxes()
    window = np.array([0, 0, *VIEW])
    for seed in range(10):
        results = cut(boxes, seed, min_visible=min_visible, min_side=10)
        for view, affine in enumerate(results['affines']):
            mapped = map_boxes(boxes, affine)
            clipped = clip_boxes(mapped, VIEW)
            wanted = (visible_share(mapped, window) >= min_visible) & (
                (clipped[:, 2:] - clipped[:, :2]).min(axis=1) >= 10
            )
            labels = results['object_labels'][view]
            assert 0 < wanted.sum() < len(boxes)
            assert labels.tolist() == np.flatnonzero(wanted).tolist()
            assert labels.dtype == np.int64
            objects = results['objects'][view]
            assert objects.dtype == np.float32
            np.testing.assert_array_equal(objects, clipped[labels])


def test_the_first_ones_are_kept():
    every = cut(random_boxes())['object_labels']
    few = cut(random_boxes(), max_objects=3)['object_labels']
    for all_, some in zip(every, few, strict=True):
        assert len(all_) > 3
        assert some.tolist() == all_[:3].tolist()


def test_views_are_the_same_with_and_without_objects():
    with_objects = cut(random_boxes())
    views = TwoRegionViews(
        proposer=dict(type='mmfgl.RandomRegions'),
        view_size=VIEW,
        num_regions=4,
    )
    np.random.seed(0)
    img = np.random.randint(0, 256, (*SIZE, 3), np.uint8)
    without = views(dict(img=img, img_path='x.jpg'))
    assert 'objects' not in without
    assert 'objects' not in PackRegionViews()(without)['data_samples']
    for key in ('boxes', 'jittered', 'views'):
        np.testing.assert_array_equal(with_objects[key], without[key])


def test_labels_are_zero_unless_the_proposer_gives_some():
    views = TwoRegionViews(
        proposer=dict(type='mmfgl.RandomRegions'),
        object_proposer=dict(type='mmfgl.RandomRegions', num_regions=40),
        view_size=VIEW,
    )
    results = views(dict(img=np.zeros((*SIZE, 3), np.uint8)))
    for boxes, labels in zip(
        results['objects'], results['object_labels'], strict=True
    ):
        assert len(boxes) == len(labels) > 0
        assert not labels.any()


def test_pack_collate_and_move():
    outputs = [cut(random_boxes(), seed=1), cut([], seed=2)]
    batch = default_collate([PackRegionViews()(dict(o)) for o in outputs])
    data = SelfSupDataPreprocessor()(batch, training=True)
    for sample, results in zip(data['data_samples'], outputs, strict=True):
        counts = [len(boxes) for boxes in results['objects']]
        moved = sample.to(torch.float64)
        assert moved.objects.dtype == torch.float64
        assert moved.objects.shape == (sum(counts), 5)
        assert moved.object_labels.shape == (sum(counts),)
        assert sample.objects.dtype == torch.float32
        assert sample.object_labels.dtype == torch.int64
        for view, boxes in enumerate(results['objects']):
            rows = sample.objects[:, 0] == view
            assert rows.sum() == len(boxes)
            np.testing.assert_array_equal(sample.objects[rows, 1:], boxes)
            np.testing.assert_array_equal(
                sample.object_labels[rows], results['object_labels'][view]
            )
    assert len(data['data_samples'][0].objects) > 0
    assert len(data['data_samples'][1].objects) == 0


def test_max_objects_out_of_range():
    with pytest.raises(ValueError, match='max_objects'):
        cut([], max_objects=0)
