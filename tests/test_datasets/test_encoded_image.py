"""Scaled JPEG decoding keeps the geometry exact."""

from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from mmfgl.datasets import LoadUnlabelledImage, TwoRegionViews
from mmfgl.datasets.encoded_image import EncodedImage, reduction
from mmfgl.registry import TRANSFORMS


def jpeg(size=(133, 101), turn=None):
    """A smooth picture of odd size, with an EXIF orientation."""
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    img = np.stack(
        [x * 220 / width + 10, y * 220 / height + 10, (x + y) / 2 + 20], -1
    )
    file = BytesIO()
    image = Image.fromarray(np.clip(img, 0, 255).astype(np.uint8))
    options = {}
    if turn:
        options['exif'] = Image.Exif()
        options['exif'][0x0112] = turn
    image.save(file, 'JPEG', quality=98, subsampling=0, **options)
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
    x, y = x.ravel(), y.ravel()
    back_x = (x + 0.5 - affine[0, 2]) / affine[0, 0] - 0.5
    back_y = (y + 0.5 - affine[1, 2]) / affine[1, 1] - 0.5
    expected = cv2.remap(
        full,
        back_x.astype(np.float32)[None],
        back_y.astype(np.float32)[None],
        cv2.INTER_LINEAR,
    )[0]
    error = small[y, x].astype(float) - expected
    # a shift of one full pixel would change the mean by about 2
    assert np.abs(error.mean(axis=0)).max() < 0.7


def test_reduction():
    assert reduction(np.array([4.0, 3.9]), 1.0) == 2
    assert reduction(np.array([4.0, 4.0]), 1.0) == 4
    assert reduction(np.array([4.0, 4.0]), 2.0) == 2
    assert reduction(np.array([0.3, 9.0]), 1.0) == 1
    assert reduction(np.array([99.0]), 1.0) == 8


def test_damaged():
    with pytest.raises(OSError):
        EncodedImage(b'\xff\xd8 no image')
    data = jpeg()
    assert not EncodedImage.is_jpeg(b'')
    assert EncodedImage.is_jpeg(data)


def views(lazy, path, seed, **options):
    load = LoadUnlabelledImage(lazy=lazy)
    cut = TwoRegionViews(
        proposer=dict(type='mmfgl.RandomRegions'),
        view_size=(48, 40),
        num_regions=5,
        **options,
    )
    np.random.seed(seed)
    results = load(dict(img_path=str(path)))
    return results and cut(results)


@pytest.mark.parametrize('turn', [None, 3, 6])
def test_views_of_a_reduced_image(tmp_path, turn):
    path = tmp_path / 'x.jpg'
    path.write_bytes(jpeg((533, 401), turn))
    for seed in range(5):
        whole, lazy = (views(flag, path, seed) for flag in (False, True))
        for key in ('boxes', 'jittered', 'affines', 'ori_shape'):
            np.testing.assert_array_equal(whole[key], lazy[key])
        for one, two in zip(whole['views'], lazy['views'], strict=True):
            error = one.astype(float) - two
            assert np.abs(error).mean() < 2
            assert np.abs(error.mean(axis=(0, 1))).max() < 0.7
        detailed = views(True, path, seed, min_detail=100)
        np.testing.assert_array_equal(whole['views'], detailed['views'])


def test_lazy_loading_of_other_files(tmp_path):
    cv2.imwrite(str(tmp_path / 'x.png'), np.zeros((60, 60, 3), np.uint8))
    load = LoadUnlabelledImage(lazy=True)
    loaded = load(dict(img_path=str(tmp_path / 'x.png')))
    assert isinstance(loaded['img'], np.ndarray)
    (tmp_path / 'a.jpg').write_bytes(b'\xff\xd8 broken')
    (tmp_path / 'b.jpg').write_bytes(b'')
    for name in ('a.jpg', 'b.jpg', 'absent.jpg'):
        assert load(dict(img_path=str(tmp_path / name))) is None


def test_damage_found_while_decoding(monkeypatch, tmp_path):
    path = tmp_path / 'x.jpg'
    path.write_bytes(jpeg())
    monkeypatch.setattr(EncodedImage, 'decode', lambda self, reduce=1: None)
    assert views(True, path, 0) is None


def test_min_detail_out_of_range():
    with pytest.raises(ValueError, match='min_detail'):
        TwoRegionViews(proposer=dict(type='mmfgl.RandomRegions'), min_detail=0)


def test_cached_images_are_decoded_whole(tmp_path):
    (tmp_path / 'x.jpg').write_bytes(jpeg())
    load = TRANSFORMS.build(dict(type='mmfgl.LoadCachedImage', lazy=True))
    plain = LoadUnlabelledImage()
    for _ in range(2):
        results, wanted = (
            f(dict(img_path=str(tmp_path / 'x.jpg'))) for f in (load, plain)
        )
        np.testing.assert_array_equal(results['img'], wanted['img'])
        results['img'][:] = 0  # a later step may change its image
