import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.models import SelfSupDataPreprocessor

from mmfgl.datasets import RandomRegions, RegionProposer, TwoRegionViews
from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.datasets.transforms.view_maps import (
    clip_boxes,
    invert_affine,
    map_boxes,
    visible_share,
)
from mmfgl.registry import TRANSFORMS

VIEW = (64, 48)  # (width, height)
HEIGHT, WIDTH = 90, 120


class Recorder(RegionProposer):
    """Random regions that can be looked up afterwards."""

    def __init__(self, num_regions=300):
        self.inner = num_regions and RandomRegions(num_regions)

    def propose(self, info, rng=None):
        self.info = info
        self.boxes = np.zeros((0, 4), np.float32)
        if self.inner:
            self.boxes = self.inner.propose(info, rng)
        return self.boxes


def transform(proposed=300, **options):
    options = dict(view_size=VIEW, num_regions=6) | options
    return TwoRegionViews(
        proposer=dict(type=Recorder, num_regions=proposed), **options
    )


def cut(views, seed=0, size=(HEIGHT, WIDTH)):
    np.random.seed(seed)
    img = np.random.randint(0, 256, (*size, 3), np.uint8)
    return views(dict(img=img, img_path='x.jpg'))


def crops_of(results):
    window = np.array([[0, 0, *VIEW]])
    return [map_boxes(window, invert_affine(a))[0] for a in results['affines']]


@pytest.mark.parametrize('seed', range(3))
def test_shapes_and_limits(seed):
    views = transform()
    results = cut(views, seed)
    assert 'img' not in results
    assert [v.shape for v in results['views']] == [(48, 64, 3)] * 2
    assert all(v.dtype == np.uint8 for v in results['views'])
    assert results['affines'].shape == (2, 2, 3)
    for boxes in (results['boxes'], results['jittered']):
        assert boxes.shape == (2, 6, 4)
        assert boxes.dtype == np.float32
        assert (boxes >= 0).all()
        assert (boxes[..., 2:] <= VIEW).all()
        assert (boxes[..., 2:] > boxes[..., :2]).all()
    # what file-based and content-based proposers need
    info = views.proposer.info
    assert info['img_path'] == 'x.jpg'
    assert info['img_shape'] == info['img'].shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize('min_visible', [0.5, 0.8])
def test_proposed_regions_are_visible_and_large_enough(min_visible):
    views = transform(min_visible=min_visible, min_side=6)
    for seed in range(20):
        results = cut(views, seed)
        proposed = views.proposer.boxes
        mapped = np.stack([map_boxes(proposed, a) for a in results['affines']])
        clipped = np.stack([clip_boxes(boxes, VIEW) for boxes in mapped])
        for region in range(6):
            gap = np.abs(clipped - results['boxes'][:, region, None])
            found = gap.max(axis=(0, 2)).argmin()
            # one and the same proposed region in both views
            np.testing.assert_allclose(
                clipped[:, found], results['boxes'][:, region], atol=1e-3
            )
            for crop, boxes in zip(crops_of(results), mapped, strict=True):
                share = visible_share(proposed[[found]], crop)
                assert share >= min_visible - 1e-4
                sides = boxes[found, 2:] - boxes[found, :2]
                assert sides.min() >= 6 - 1e-3


def in_image(results):
    """(2, N, 4) boxes of the two views, mapped back to the image."""
    return np.stack(
        [
            map_boxes(boxes, invert_affine(affine))
            for boxes, affine in zip(
                results['boxes'], results['affines'], strict=True
            )
        ]
    )


@pytest.mark.parametrize(('proposed', 'wanted'), [(8, 8), (3, 10)])
def test_proposed_regions_come_before_filled_ones(proposed, wanted):
    # the views show the whole image, so that every proposed region fits
    views = transform(
        proposed=proposed,
        num_regions=wanted,
        crop_scale=(1.0, 1.0),
        crop_ratio=(WIDTH / HEIGHT, WIDTH / HEIGHT),
        min_side=1,
    )
    for back in in_image(cut(views)):
        assert len(back) == wanted
        for box in views.proposer.boxes:
            assert np.abs(back - box).max(axis=1).min() < 0.01


@pytest.mark.parametrize('flip_prob', [0.0, 1.0, 0.5])
def test_both_views_hold_the_same_regions(flip_prob):
    views = transform(flip_prob=flip_prob)
    for seed in range(20):
        results = cut(views, seed)
        # a view cuts its boxes off at its own border, so they are compared
        # within the part of the image that both views show
        crops = np.stack(crops_of(results))
        low, high = crops[:, :2].max(axis=0), crops[:, 2:].min(axis=0)
        back = in_image(results)
        back[..., :2] = np.maximum(back[..., :2], low)
        back[..., 2:] = np.minimum(back[..., 2:], high)
        np.testing.assert_allclose(back[0], back[1], atol=0.01)
        flips = results['affines'][:, 0, 0] < 0
        assert flip_prob == 0.5 or (flips == bool(flip_prob)).all()


def test_fill_when_nothing_is_proposed():
    views = transform(proposed=0)
    for seed in range(20):
        results = cut(views, seed)
        back = in_image(results)
        # wholly inside the part that both views share, hence never clipped
        np.testing.assert_allclose(back[0], back[1], atol=0.01)
        for crop in crops_of(results):
            assert (visible_share(back[0], crop) > 0.999).all()
        assert len(np.unique(back[0].round(3), axis=0)) == 6


@pytest.mark.parametrize('jitter', [0.0, 0.1, 0.3])
def test_jitter_stays_near_and_differs_by_view(jitter):
    # regions inside both views: their exact boxes are not clipped
    views = transform(proposed=0, jitter=jitter, num_regions=30)
    results = cut(views)
    exact, moved = results['boxes'], results['jittered']
    sides = np.tile(exact[..., 2:] - exact[..., :2], 2)
    noise = (moved - exact) / sides
    # a centre moves by <= jitter, half a side grows by <= jitter / 2
    assert np.abs(noise).max() <= 1.5 * jitter + 1e-5
    if jitter:
        assert np.abs(noise).max() > 0.5 * jitter
        assert np.median(np.abs(noise[0] - noise[1])) > 0.2 * jitter


def test_reproducible_under_numpys_seed():
    views = transform()
    one, same, other = cut(views, 3), cut(views, 3), cut(views, 4)
    for key in ('boxes', 'jittered', 'affines', 'views'):
        assert np.array_equal(one[key], same[key])
    assert not np.array_equal(one['affines'], other['affines'])
    assert not np.array_equal(one['affines'][0], one['affines'][1])


def test_crops_share_enough_of_the_image():
    views = transform(crop_scale=(0.2, 0.4), min_shared=0.6)
    for seed in range(30):
        first, second = crops_of(cut(views, seed))
        area = HEIGHT * WIDTH
        for crop in (first, second):
            share = (crop[2] - crop[0]) * (crop[3] - crop[1]) / area
            assert 0.2 - 1e-3 <= share <= 0.4 + 1e-3
            assert crop.min() >= -1e-3
            assert (crop[2:] <= [WIDTH + 1e-3, HEIGHT + 1e-3]).all()
        shared = max(
            visible_share(first[None], second)[0],
            visible_share(second[None], first)[0],
        )
        assert shared >= 0.6 - 1e-4


def test_second_crop_falls_back_on_the_first():
    views = transform(crop_scale=(0.1, 0.1), min_shared=0.999, max_tries=1)
    first, second = crops_of(cut(views))
    np.testing.assert_allclose(first, second, atol=1e-3)


def whole_image(photometric):
    """Both views are the image itself, but for the photometric part."""
    views = TwoRegionViews(
        proposer=dict(type=Recorder),
        view_size=40,
        crop_scale=(1.0, 1.0),
        crop_ratio=(1.0, 1.0),
        flip_prob=0.0,
        photometric=photometric,
    )
    img = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    return img, views(dict(img=img.copy(), img_path='x.jpg'))['views']


def test_photometric_lists():
    invert = dict(type='mmpretrain.Invert', prob=1.0)
    img, (one, two) = whole_image(())
    assert np.array_equal(one, img)
    assert np.array_equal(two, img)
    img, (one, two) = whole_image([invert])
    assert np.array_equal(one, 255 - img)
    assert np.array_equal(two, 255 - img)
    img, (one, two) = whole_image([[], [invert]])
    assert np.array_equal(one, img)
    assert np.array_equal(two, 255 - img)


@pytest.mark.parametrize('lists', [[[]], [[], [], []]])
def test_wrong_number_of_photometric_lists(lists):
    with pytest.raises(ValueError, match='photometric.*two views'):
        transform(photometric=lists)


@pytest.mark.parametrize(
    'options',
    [
        dict(num_regions=0),
        dict(jitter=1.0),
        dict(jitter=-0.1),
        dict(min_shared=0.0),  # crops apart would leave no shared part
        dict(min_shared=1.1),
    ],
)
def test_settings_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        transform(**options)


@pytest.mark.parametrize('proposed', [0, 50])
@pytest.mark.parametrize('size', [(8, 8), (1, 40), (40, 1), (1, 1)])
def test_tiny_images(size, proposed):
    views = transform(proposed=proposed)
    for seed in range(5):
        results = cut(views, seed, size)
        assert [v.shape for v in results['views']] == [(48, 64, 3)] * 2
        for boxes in (results['boxes'], results['jittered']):
            assert boxes.shape == (2, 6, 4)
            assert np.isfinite(boxes).all()
            assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_pack_collate_and_preprocess():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        steps = [
            transform(),
            TRANSFORMS.build(dict(type='mmfgl.PackRegionViews')),
        ]
    batch, raw = [], []
    for seed in range(3):
        results = cut(steps[0], seed) | dict(skipped=['bad.jpg'])
        raw.append(results)
        batch.append(steps[1](results))
    assert list(batch[0]) == ['inputs', 'data_samples']
    batch = default_collate(batch)
    preprocess = SelfSupDataPreprocessor(
        mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], bgr_to_rgb=True
    )
    data = preprocess(batch, training=True)
    assert [v.shape for v in data['inputs']] == [(3, 3, 48, 64)] * 2
    for view in range(2):
        bgr = torch.from_numpy(raw[1]['views'][view].astype(np.float32))
        for channel in range(3):
            expected = (bgr[..., 2 - channel] - (channel + 1)) / (channel + 4)
            torch.testing.assert_close(
                data['inputs'][view][1, channel], expected
            )
    for sample, results in zip(data['data_samples'], raw, strict=True):
        assert isinstance(sample, RegionDataSample)
        for key in ('boxes', 'jittered'):
            assert torch.equal(sample.get(key), torch.from_numpy(results[key]))
        assert sample.img_path == 'x.jpg'
        assert sample.skipped == ['bad.jpg']
        assert np.array_equal(sample.affines, results['affines'])
        assert sample.to(torch.float64).boxes.dtype == torch.float64


def test_pack_leaves_unknown_meta_out():
    pack = TRANSFORMS.build(
        dict(type='mmfgl.PackRegionViews', meta_keys=('img_path', 'absent'))
    )
    sample = pack(cut(transform()))['data_samples']
    assert sample.metainfo_keys() == ['img_path']
