import pytest

from mmfgl.recipes.photos import read_photos
from mmfgl.testing import tiny_coco


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """6 photographs to train on, 3 for val, 2 without labels."""
    return tiny_coco(tmp_path_factory.mktemp('digits'), 6, 3, 2)


@pytest.fixture(scope='session')
def dataset(digits):
    return read_photos(digits)
