import numpy as np
import pytest
from cv2 import invertAffineTransform

from mmfgl.datasets.transforms.region_views import warp_view
from mmfgl.datasets.transforms.view_maps import (
    clip_boxes,
    crop_affine,
    map_boxes,
    visible_share,
)

# crop of the image (x1, y1, x2, y2), view (width, height)
CROPS = [
    (np.array([10, 20, 110, 120]), (100, 100)),  # plain crop
    (np.array([0, 0, 200, 150]), (100, 75)),  # shrunk
    (np.array([30.5, 12.25, 90.5, 62.25]), (180, 150)),  # enlarged
    (np.array([15.3, 40.7, 175.9, 101.2]), (96, 128)),  # sides scaled apart
]
every_crop = pytest.mark.parametrize(('crop', 'size'), CROPS)
both_flips = pytest.mark.parametrize('flip', [False, True])


@both_flips
@every_crop
def test_boxes_keep_their_position_in_the_crop(crop, size, flip):
    affine = crop_affine(crop, size, flip)
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(size=(30, 2, 2)) * 200, axis=1)
    boxes = corners.reshape(30, 4).astype(np.float32)
    zoom = np.array(size) / (crop[2:] - crop[:2])
    expected = (boxes - np.tile(crop[:2], 2)) * np.tile(zoom, 2)
    if flip:
        expected = expected[:, [2, 1, 0, 3]] * [-1, 1, -1, 1]
        expected += [size[0], 0, size[0], 0]
    np.testing.assert_allclose(map_boxes(boxes, affine), expected, atol=1e-3)
    whole = map_boxes(crop[None], affine)
    np.testing.assert_allclose(whole, [[0, 0, *size]], atol=1e-4)


@both_flips
@every_crop
def test_pixels_come_from_where_the_map_says(crop, size, flip):
    # each pixel holds its own position: a shift of half a pixel would show
    img = np.zeros((150, 200, 3), np.float32)
    img[..., 0] = np.arange(200) + 0.5
    img[..., 1] = np.arange(150)[:, None] + 0.5
    affine = crop_affine(crop, size, flip)
    view = warp_view(img, affine, size)
    assert view.shape == (size[1], size[0], 3)
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    inverse = invertAffineTransform(affine)
    source = np.stack([x, y], axis=-1) @ inverse[:, :2].T + inverse[:, 2]
    # beyond the centres of the outermost pixels the border is repeated
    source = np.clip(source, 0.5, [199.5, 149.5])
    # OpenCV interpolates at 1/32 pixel
    np.testing.assert_allclose(view[..., :2], source, atol=0.05)


def test_clipped_boxes_and_no_boxes():
    boxes = np.array([[-5, 2, 30, 40], [3, 4, 5, 6]], np.float32)
    clipped = clip_boxes(boxes, (20, 10))
    assert clipped.tolist() == [[0, 2, 20, 10], [3, 4, 5, 6]]
    assert boxes[0, 0] == -5  # not in place
    none, affine = boxes[:0], np.eye(2, 3)
    assert map_boxes(none, affine).shape == (0, 4)
    assert clip_boxes(none, (5, 5)).shape == (0, 4)
    assert visible_share(none, np.array([0, 0, 5, 5])).shape == (0,)


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
    empty = np.array([[9.0, 9, 9, 15]])
    assert visible_share(empty, window) == 0
