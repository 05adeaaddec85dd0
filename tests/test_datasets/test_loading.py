"""Loading: unreadable files, cached images, exactly scaled JPEGs."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from mmfgl.datasets import LoadUnlabelledImage, RegionViews
from mmfgl.datasets.image_reader import EncodedImage, UnreadableImageError
from mmfgl.datasets.transforms.loading import reduction
from mmfgl.datasets.transforms.region_views import warp_view
from mmfgl.registry import TRANSFORMS


def jpeg(size=(133, 101), turn=None):
    """A smooth picture of odd size, with an EXIF orientation."""
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    img = np.stack(
        [x * 220 / width + 10, y * 220 / height + 10, (x + y) / 2 + 20], -1
    )
    file, exif = BytesIO(), Image.Exif()
    if turn:
        exif[0x0112] = turn
    image = Image.fromarray(np.clip(img, 0, 255).astype(np.uint8))
    image.save(file, 'JPEG', quality=98, subsampling=0, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize('turn', [None, *range(1, 9)])
@pytest.mark.parametrize('reduce', [1, 2, 4, 8])
def test_decoded_pixels_lie_where_the_affine_says(turn, reduce):
    encoded = EncodedImage(jpeg(turn=turn))
    full, eye = encoded.decode()
    assert full.shape[:2] == encoded.shape
    assert np.array_equal(eye, np.eye(2, 3))
    small, affine = encoded.decode(reduce)
    # pixel centres of the small image, mapped to the full one
    y, x = np.mgrid[2 : small.shape[0] - 2, 2 : small.shape[1] - 2]
    back = np.stack([x, y], -1) + 0.5
    back = back * np.diag(affine) + affine[:, 2] - 0.5
    maps = np.moveaxis(back.astype(np.float32), -1, 0)
    error = small[2:-2, 2:-2] - cv2.remap(full, *maps, 1).astype(float)
    # a shift of one full pixel would change the mean by about 2
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.7


def test_reduction():
    cases = [([4.0, 3.9], 2), ([4.0, 4.0], 4), ([0.3, 9.0], 1), ([99.0], 8)]
    for zooms, expected in cases:
        assert reduction(np.array(zooms)) == expected


def views(lazy, path, seed):
    load = LoadUnlabelledImage(lazy=lazy)
    cut = RegionViews(dict(type='mmfgl.RandomRegions'), view_size=(48, 40))
    np.random.seed(seed)
    return cut(load(dict(img_path=str(path))))


@pytest.mark.parametrize('turn', [None, 3, 6])
def test_views_of_a_reduced_image(tmp_path, turn):
    path = tmp_path / 'x.jpg'
    path.write_bytes(jpeg((533, 401), turn))
    for seed in range(5):
        whole, lazy = (views(flag, path, seed) for flag in (False, True))
        for key in ('boxes', 'affines', 'ori_shape'):
            np.testing.assert_array_equal(whole[key], lazy[key])
        assert not np.array_equal(whole['views'], lazy['views'])
        for one, two in zip(whole['views'], lazy['views'], strict=True):
            error = one.astype(float) - two
            assert np.abs(error).mean() < 2
            assert np.abs(error.mean(axis=(0, 1))).max() < 0.7


def test_lazy_loading_of_damaged_and_of_other_files(tmp_path):
    load = LoadUnlabelledImage(lazy=True)
    path = tmp_path / 'x.jpg'
    path.write_bytes(jpeg()[:700])  # the header and no pixels
    assert isinstance(load(dict(img_path=str(path)))['img'], EncodedImage)
    with pytest.raises(UnreadableImageError, match='damaged or cut off'):
        views(True, path, 0)
    path = str(tmp_path / 'x.png')
    cv2.imwrite(path, np.zeros((60, 60, 3), np.uint8))
    assert isinstance(load(dict(img_path=path))['img'], np.ndarray)


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_any_file_gives_three_channels_of_bytes(tmp_path, channels, dtype):
    path = str(tmp_path / 'x.png')
    value = 77 * (256 if dtype == np.uint16 else 1)
    assert cv2.imwrite(path, np.full((24, 32, channels), value, dtype))
    loaded = LoadUnlabelledImage()(dict(img_path=path))
    expected = np.full((24, 32, 3), 77, np.uint8)
    np.testing.assert_array_equal(loaded['img'], expected, strict=True)
    assert loaded['img_shape'] == loaded['ori_shape'] == (24, 32)


@pytest.mark.parametrize(
    ('name', 'options'),
    [('LoadUnlabelledImage', {}), ('LoadUnlabelledImage', dict(lazy=True))]
    + [('LoadCachedImage', {}), ('LoadImage', {})],
)
def test_unreadable_files_are_named(tmp_path, name, options):
    load = TRANSFORMS.build(dict(type=f'mmfgl.{name}', **options))
    path = tmp_path / 'x.jpg'
    with pytest.raises(UnreadableImageError, match='x.jpg: No such file'):
        load(dict(img_path=str(path)))
    for content in (b'', b'<html>404</html>', b'\xff\xd8\xff no jpeg'):
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError, match='x.jpg: '):
            load(dict(img_path=str(path)))


def test_cached_images(tmp_path):
    path = tmp_path / 'x.jpg'
    path.write_bytes(jpeg())
    pixels = LoadUnlabelledImage()(dict(img_path=str(path)))['img']
    config = dict(type='mmfgl.LoadCachedImage')
    load, less = TRANSFORMS.build(config), TRANSFORMS.build(config)
    load.MAX_BYTES, less.MAX_BYTES = pixels.nbytes, pixels.nbytes - 1
    for loader in (load, less):
        first = loader(dict(img_path=str(path)))
        np.testing.assert_array_equal(first['img'], pixels)
        first['img'][:] = 0  # a transform that works in place
    path.unlink()
    second = load(dict(img_path=str(path), sample_idx=3))
    np.testing.assert_array_equal(second['img'], pixels)
    assert second['img_shape'] == second['ori_shape'] == (101, 133)
    assert second['sample_idx'] == 3
    with pytest.raises(UnreadableImageError, match='No such file'):
        less(dict(img_path=str(path)))


def test_views_of_sides_that_opencv_does_not_warp():
    x = np.linspace(0, 250, 40000, dtype=np.uint8)
    img = np.repeat(np.tile(x, (3, 1))[..., None], 3, -1)
    affine = np.array([[64 / 40000, 0, 0], [0, 8 / 3, 0]])
    view = warp_view(img, affine, (64, 8))
    expected = np.linspace(0, 250, 65)
    expected = (expected[1:] + expected[:-1]) / 2
    assert np.abs(view.astype(float)[4, :, 0] - expected).max() < 4


@pytest.mark.parametrize('lazy', [True, False])
def test_views_of_one_pixel_and_of_strips(tmp_path, lazy):
    for size in ((1, 1), (1, 60), (40000, 2)):
        path = tmp_path / 'x.jpg'
        Image.new('L', size, 99).save(path)
        assert views(lazy, path, 0)['views'][1].shape == (40, 48, 3)
