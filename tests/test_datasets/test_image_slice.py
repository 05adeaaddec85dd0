import numpy as np
import pytest
from mmcv.transforms import Resize

from mmfgl.datasets.transforms import ImageSlice


def loaded(**keys):
    image = np.arange(50 * 80 * 3, dtype=np.uint8).reshape(50, 80, 3)
    return dict(img=image, img_shape=(50, 80), ori_shape=(50, 80), **keys)


@pytest.mark.parametrize(
    'window, expected',
    [
        ((0, 0, 1, 1), (0, 0, 80, 50)),
        ((0.4, 0, 1, 0.6), (32, 0, 80, 30)),
        ((0.999, 0.5, 1, 0.501), (79, 25, 80, 26)),  # never empty
    ],
)
def test_shows_the_window(window, expected):
    source = loaded()
    results = ImageSlice(window).transform(dict(source))
    x1, y1, x2, y2 = results['slice_window']
    assert (x1, y1, x2, y2) == expected
    assert np.array_equal(results['img'], source['img'][y1:y2, x1:x2])
    assert results['img_shape'] == (y2 - y1, x2 - x1)
    assert results['ori_shape'] == (50, 80)


def test_bad_windows_and_pipelines():
    bad = [(0, 0, 0, 1), (0.5, 0, 0.4, 1), (-0.1, 0, 1, 1), (0, 0, 1, 2)]
    for window in bad:
        with pytest.raises(ValueError, match='fractions of the image'):
            ImageSlice(window)
    results = Resize((40, 25)).transform(loaded())
    with pytest.raises(ValueError, match=r"before.*found \['scale_factor'\]"):
        ImageSlice((0, 0, 0.5, 1)).transform(results)
