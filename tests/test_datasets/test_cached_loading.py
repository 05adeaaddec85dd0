import cv2
import numpy as np
import pytest

from mmfgl.registry import TRANSFORMS


def build(**kwargs):
    return TRANSFORMS.build(dict(type='mmfgl.LoadCachedImage', **kwargs))


@pytest.fixture
def path(tmp_path):
    file = tmp_path / 'image.png'
    pixels = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    cv2.imwrite(str(file), pixels)
    return file


def test_second_load_needs_no_file_and_is_untouched(path):
    load = build()
    first = load(dict(img_path=str(path)))
    pixels = first['img'].copy()
    first['img'] += 1  # a transform that works in place
    path.unlink()
    second = load(dict(img_path=str(path), sample_idx=3))
    np.testing.assert_array_equal(second['img'], pixels)
    assert second['img_shape'] == second['ori_shape'] == (6, 4)
    assert second['sample_idx'] == 3


def test_holds_no_more_than_allowed(path):
    load = build(max_bytes=6 * 4 * 3 - 1)
    assert load(dict(img_path=str(path))) is not None
    path.unlink()
    assert load(dict(img_path=str(path))) is None


def test_unreadable_file(tmp_path):
    (tmp_path / 'broken.jpg').write_bytes(b'no image')
    assert build()(dict(img_path=str(tmp_path / 'broken.jpg'))) is None
