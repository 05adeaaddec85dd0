"""Views: the same regions in all, the visible objects of each."""

import numpy as np
import pytest
from cv2 import invertAffineTransform

from mmfgl.datasets import PackRegionViews, RegionViews
from mmfgl.datasets.transforms.view_maps import (
    clip_boxes,
    map_boxes,
    visible_share,
)
from tests.test_datasets.cut_views import (
    HEIGHT,
    VIEW,
    WIDTH,
    cut,
    recorder,
    transform,
    with_objects,
)


def to_image(boxes, affine):
    return map_boxes(boxes, invertAffineTransform(affine))


def crops_of(results):
    """(V, 4) crops of the image."""
    window = np.array([[0, 0, *VIEW]])
    return np.concatenate([to_image(window, a) for a in results['affines']])


def in_image(results):
    """(V, N, 4) boxes of the views, mapped back to the image."""
    return np.stack([*map(to_image, results['boxes'], results['affines'])])


@pytest.mark.parametrize('num_views', [1, 2])
@pytest.mark.parametrize('num_regions', [0, 6])
def test_shapes_and_limits(num_views, num_regions):
    views = transform(num_views=num_views, num_regions=num_regions)
    results = cut(views)
    assert results['img'] is results['views']
    kinds = [(v.shape, v.dtype) for v in results['views']]
    assert kinds == [((48, 64, 3), np.uint8)] * num_views
    assert results['affines'].shape == (num_views, 2, 3)
    boxes = results['boxes']
    assert boxes.shape == (num_views, num_regions, 4)
    assert boxes.dtype == np.float32
    assert (boxes >= 0).all() and (boxes[..., 2:] <= VIEW).all()
    if num_regions:  # what file-based and content-based proposers need
        info = views.proposer.info
        assert info['img_path'] == 'x.jpg'
        assert info['img_shape'] == info['img'].shape[:2] == (HEIGHT, WIDTH)


def test_proposed_regions_come_before_filled_ones(monkeypatch):
    # the views show the whole image, so that every proposed region fits
    monkeypatch.setattr(RegionViews, 'CROP_RATIO', (WIDTH / HEIGHT,) * 2)
    monkeypatch.setattr(RegionViews, 'MIN_SIDE', 1)
    views = transform(3, num_regions=10, crop_scale=(1.0, 1.0))
    for back in in_image(cut(views)):
        assert len(back) == 10
        for box in views.proposer.boxes:
            assert np.abs(back - box).max(axis=1).min() < 0.01


def test_proposed_regions_are_the_same_in_both_views():
    views = transform()
    for seed in range(20):
        results = cut(views, seed)
        proposed = views.proposer.boxes
        mapped = np.stack([map_boxes(proposed, a) for a in results['affines']])
        clipped = clip_boxes(mapped, VIEW)
        sides = results['boxes'][..., 2:] - results['boxes'][..., :2]
        assert sides.min() >= views.MIN_SIDE
        for region in range(6):
            gap = np.abs(clipped - results['boxes'][:, region, None])
            found = gap.max(axis=(0, 2)).argmin()
            assert gap[:, found].max() < 1e-3
            for crop in crops_of(results):
                share = visible_share(proposed[[found]], crop)
                assert share >= views.MIN_VISIBLE - 1e-4


@pytest.mark.parametrize('flip_prob', [0.0, 0.5, 1.0])
def test_flips(flip_prob):
    views = transform(flip_prob=flip_prob)
    flips = [cut(views, i)['affines'][:, 0, 0] < 0 for i in range(50)]
    spread = 0.2 if flip_prob == 0.5 else 0
    assert np.mean(flips) == pytest.approx(flip_prob, abs=spread)


# no area, beside the image, no numbers: degenerate regions of a file
USELESS = [[9, 9, 9, 60], [9, 9, 60, 9], [200, 9, 260, 60], [np.nan] * 4]


@pytest.mark.parametrize('boxes', [(), USELESS])
def test_fill_when_nothing_useful_is_proposed(boxes):
    views = transform(0, boxes)
    for seed in range(20):
        results = cut(views, seed)
        back = in_image(results)
        # wholly inside the part that both views share, hence never clipped
        np.testing.assert_allclose(back[0], back[1], atol=0.01)
        for crop in crops_of(results):
            assert (visible_share(back[0], crop) > 0.999).all()
        assert len(np.unique(back[0].round(3), axis=0)) == 6
        objects = cut(with_objects(boxes), seed)['objects']
        assert [len(rows) for rows in objects] == [0, 0]


def test_reproducible_under_numpys_seed():
    one, same, other = (cut(transform(), seed) for seed in (3, 3, 4))
    objects = cut(with_objects(), 3)  # with and without them
    assert 'objects' not in PackRegionViews()(dict(one))['data_samples']
    for key in ('boxes', 'affines', 'views'):
        assert np.array_equal(one[key], same[key])
        assert np.array_equal(one[key], objects[key])
    assert not np.array_equal(one['affines'], other['affines'])
    assert not np.array_equal(one['affines'][0], one['affines'][1])


def test_crops_share_enough_of_the_image(monkeypatch):
    views = transform(crop_scale=(0.2, 0.3))
    for seed in range(30):
        first, second = crops = crops_of(cut(views, seed))
        shares = (crops[:, 2:] - crops[:, :2]).prod(axis=1) / HEIGHT / WIDTH
        assert 0.2 - 1e-3 <= shares.min() <= shares.max() <= 0.3 + 1e-3
        assert crops.min() >= -1e-3
        assert (crops[:, 2:] <= [WIDTH + 1e-3, HEIGHT + 1e-3]).all()
        shared = visible_share(crops, first)[1]
        shared = max(shared, visible_share(crops, second)[0])
        assert shared >= views.MIN_SHARED - 1e-4
    # or the second is the first
    monkeypatch.setattr(RegionViews, 'MAX_TRIES', 0)
    np.testing.assert_allclose(*crops_of(cut(transform())), atol=1e-3)


@pytest.mark.parametrize('num_views', [1, 2])
def test_photometric_lists(num_views, monkeypatch):
    monkeypatch.setattr(RegionViews, 'CROP_RATIO', (1, 1))
    img = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)

    def whole_image(photometric):
        """Each view is the image itself, but for the photometric part."""
        options = dict(view_size=40, crop_scale=(1.0, 1.0), flip_prob=0.0)
        options.update(num_views=num_views, photometric=photometric)
        views = RegionViews(recorder(300), **options)
        return views(dict(img=img.copy()))['views']

    invert = dict(type='mmpretrain.Invert', prob=1.0)
    assert all(np.array_equal(v, img) for v in whole_image(()))
    assert all(np.array_equal(v, 255 - img) for v in whole_image([invert]))
    *before, last = whole_image([[]] * (num_views - 1) + [[invert]])
    assert all(np.array_equal(v, img) for v in before)
    assert np.array_equal(last, 255 - img)


def test_settings_out_of_range():
    wrong = [('num_regions', -1), ('num_views', 0), ('num_views', 3)]
    wrong += [('crop_scale', (0, 1)), ('crop_scale', (0.5, 0.2))]
    for name, value in [*wrong, ('max_objects', 0), ('photometric', [[]])]:
        with pytest.raises(ValueError, match=name):
            transform(**{name: value})
    with pytest.raises(ValueError, match='num_regions=6 needs a proposer'):
        transform(proposer=None)
    with pytest.raises(ValueError, match='photometric.* the 1 views, got 2'):
        transform(photometric=[[], []], num_views=1)


@pytest.mark.parametrize('size', [(8, 8), (1, 40), (40, 1), (1, 1)])
def test_tiny_images(size):
    views = with_objects(proposed=50)
    for seed in range(5):
        results = cut(views, seed, size)
        assert [v.shape for v in results['views']] == [(48, 64, 3)] * 2
        for boxes in (*results['boxes'], *results['objects']):
            assert np.isfinite(boxes).all()
            assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_exactly_the_visible_objects_are_kept():
    window = np.array([0, 0, *VIEW])
    views = with_objects(proposed=200)
    few = with_objects(proposed=200, max_objects=3)
    for seed in range(10):
        results = cut(views, seed)
        boxes = views.object_proposer.boxes
        for view, affine in enumerate(results['affines']):
            mapped = map_boxes(boxes, affine)
            clipped = clip_boxes(mapped, VIEW)
            wanted = visible_share(mapped, window) >= views.MIN_VISIBLE
            sides = clipped[:, 2:] - clipped[:, :2]
            wanted &= sides.min(axis=1) >= views.MIN_SIDE
            labels = results['object_labels'][view]
            assert 3 < wanted.sum() < len(boxes)
            assert labels.tolist() == np.flatnonzero(wanted).tolist()
            assert labels.dtype == np.int64
            rows = results['object_rows'][view]
            assert rows.tolist() == (100 + labels).tolist()
            objects = results['objects'][view]
            assert objects.dtype == np.float32
            np.testing.assert_array_equal(objects, clipped[labels])
            first = cut(few, seed)['object_labels'][view]
            assert first.tolist() == labels[:3].tolist()


def test_regions_carry_their_rows():
    """Those of the proposer; random ones that fill up have none."""
    views = transform(proposed=12, num_regions=8, crop_scale=(0.5, 1))
    filled = 0
    for seed in range(10):
        results = cut(views, seed)
        rows = results['rows']
        assert rows.shape == (8,) and rows.dtype == np.int64
        filled += (rows < 0).sum()
        for boxes, affine in zip(results['boxes'], results['affines']):
            known = rows >= 0
            mapped = map_boxes(views.proposer.boxes, affine)
            expected = clip_boxes(mapped, VIEW)[rows[known] - 100]
            np.testing.assert_array_equal(boxes[known], expected)
        assert (rows >= 0).any()
    assert filled
    assert cut(transform(num_regions=0))['rows'].shape == (0,)
