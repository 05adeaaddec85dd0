import numpy as np
import pytest

from mmfgl.datasets.transforms import warp_view
from mmfgl.datasets.transforms.view_maps import (
    clip_boxes,
    crop_affine,
    invert_affine,
    jitter_boxes,
    map_boxes,
    visible_share,
)

# crop of the image (x1, y1, x2, y2), view (width, height)
CROPS = [
    ([10, 20, 110, 120], (100, 100)),  # plain crop
    ([0, 0, 200, 150], (100, 75)),  # shrunk
    ([30.5, 12.25, 90.5, 62.25], (180, 150)),  # enlarged
    ([15.3, 40.7, 175.9, 101.2], (96, 128)),  # sides scaled apart
]


def random_boxes(count, size, seed=0):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(size=(count, 2, 2)) * size
    return np.sort(corners, axis=1).reshape(count, 4).astype(np.float32)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize(('crop', 'size'), CROPS)
def test_crop_covers_the_view(crop, size, flip):
    affine = crop_affine(np.array(crop), size, flip)
    mapped = map_boxes(np.array([crop]), affine)
    np.testing.assert_allclose(mapped, [[0, 0, *size]], atol=1e-4)


def test_flip_mirrors_the_view():
    crop, size = np.array([10.0, 20.0, 110.0, 70.0]), (200, 100)
    boxes = random_boxes(20, 150)
    plain = map_boxes(boxes, crop_affine(crop, size))
    flip = map_boxes(boxes, crop_affine(crop, size, flip=True))
    mirrored = plain[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [200, 0, 200, 0]
    np.testing.assert_allclose(flip, mirrored, atol=1e-3)
    assert not np.allclose(flip, plain, atol=1)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize(('crop', 'size'), CROPS)
def test_inverse_maps_back(crop, size, flip):
    affine = crop_affine(np.array(crop), size, flip)
    boxes = random_boxes(30, 200)
    there = map_boxes(boxes, affine)
    back = map_boxes(there, invert_affine(affine))
    np.testing.assert_allclose(back, boxes, atol=1e-3)
    assert (there[:, 2:] >= there[:, :2]).all()  # corners stay in order
    twice = invert_affine(invert_affine(affine))
    np.testing.assert_allclose(twice, affine, atol=1e-9)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize(('crop', 'size'), CROPS)
def test_boxes_follow_the_pixels(crop, size, flip):
    affine = crop_affine(np.array(crop), size, flip)
    for box in ([40, 45, 80, 58], [52, 50, 61, 90], [5, 3, 190, 140]):
        img = np.zeros((150, 200, 3), np.uint8)
        img[box[1] : box[3], box[0] : box[2]] = 255
        view = warp_view(img, affine, size)
        assert view.shape == (size[1], size[0], 3)
        y, x = np.nonzero(view[..., 0] > 127)
        extent = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        expected = clip_boxes(map_boxes(np.array([box]), affine), size)[0]
        assert np.abs(extent - expected).max() <= 1


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize(('crop', 'size'), CROPS)
def test_pixels_come_from_where_the_map_says(crop, size, flip):
    # each pixel holds its own place, so a shift of half a pixel would show
    img = np.zeros((150, 200, 3), np.float32)
    img[..., 0] = np.arange(200) + 0.5
    img[..., 1] = np.arange(150)[:, None] + 0.5
    affine = crop_affine(np.array(crop), size, flip)
    view = warp_view(img, affine, size)
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    inverse = invert_affine(affine)
    place = np.stack([x, y], axis=-1) @ inverse[:, :2].T + inverse[:, 2]
    # beyond the centres of the outermost pixels the border is repeated
    place = np.clip(place, 0.5, [199.5, 149.5])
    # OpenCV interpolates at 1/32 pixel
    np.testing.assert_allclose(view[..., :2], place, atol=0.05)


@pytest.mark.parametrize('crop', [[5, 5, 5, 9], [9, 5, 5, 9], [5, 9, 9, 9]])
def test_empty_crop(crop):
    with pytest.raises(ValueError, match='empty crop'):
        crop_affine(np.array(crop), (10, 10))


def test_no_boxes():
    none = np.zeros((0, 4), np.float32)
    affine = crop_affine(np.array([0, 0, 5, 5]), (10, 10))
    assert map_boxes(none, affine).shape == (0, 4)
    assert clip_boxes(none, (5, 5)).shape == (0, 4)
    assert visible_share(none, np.array([0, 0, 5, 5])).shape == (0,)
    rng = np.random.default_rng(0)
    assert jitter_boxes(none, 0.1, rng).shape == (0, 4)


def test_clip_boxes():
    boxes = np.array([[-5, 2, 30, 40], [3, 4, 5, 6]], np.float32)
    clipped = clip_boxes(boxes, (20, 10))
    assert clipped.tolist() == [[0, 2, 20, 10], [3, 4, 5, 6]]
    assert boxes[0, 0] == -5  # not in place


def test_visible_share_equals_counted_pixels():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 30, size=(40, 2, 2)), axis=1)
    corners[:, 1] += 1
    boxes = corners.reshape(40, 4)
    window = np.array([8, 5, 21, 25])
    inside = np.zeros((31, 31), dtype=bool)
    inside[5:25, 8:21] = True
    shares = visible_share(boxes, window)
    for (x1, y1, x2, y2), share in zip(boxes, shares, strict=True):
        assert share == pytest.approx(inside[y1:y2, x1:x2].mean())
    assert shares.min() == 0
    assert shares.max() == 1


def test_visible_share_of_an_empty_box():
    boxes = np.array([[5.0, 5, 5, 9]])
    assert visible_share(boxes, np.array([0, 0, 10, 10])) == 0


@pytest.mark.parametrize('amount', [0.0, 0.1, 0.5])
def test_jitter_stays_within_bounds(amount):
    boxes = np.tile([[10.0, 20.0, 50.0, 30.0]], (4000, 1)).astype(np.float32)
    moved = jitter_boxes(boxes, amount, np.random.default_rng(0))
    assert moved.dtype == np.float32
    sides = np.array([40.0, 10.0])
    shift = ((moved[:, :2] + moved[:, 2:]) / 2 - [30, 25]) / sides
    growth = (moved[:, 2:] - moved[:, :2]) / sides - 1
    for noise in (shift, growth):
        assert np.abs(noise).max() <= amount + 1e-5
        # uniform: the whole range is used, and it is centred
        assert np.abs(noise).max() >= 0.95 * amount
        assert np.abs(noise.mean(axis=0)).max() <= 0.05 * amount
    assert (moved[:, 2:] > moved[:, :2]).all()


def test_jitter_is_seeded():
    boxes = random_boxes(5, 100)
    one, same, other = (
        jitter_boxes(boxes, 0.1, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
