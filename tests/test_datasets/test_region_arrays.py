"""Region files that are folders of arrays."""

import numpy as np
import pytest

from mmfgl.datasets import FileRegions
from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.datasets.region_arrays import (
    GrowingArray,
    RegionSpool,
    key_of,
    write_region_arrays,
)
from mmfgl.datasets.region_file import read_region_file

SHAPE = (80, 100)


def info(path, shape=SHAPE):
    return dict(img_path=path, img_shape=shape)


def spool_of(folder, names=('b/1.jpg', 'a/1.jpg', '2.jpg')):
    """Three, no and one region of images of 100 x 80 pixels."""
    spool = RegionSpool(folder / 'spool')
    for name, count in zip(names, (3, 0, 1), strict=True):
        boxes = np.arange(4 * count).reshape(count, 4) % 7
        boxes[:, 2:] += 20
        spool.append(
            name,
            SHAPE,
            boxes=boxes,
            scores=np.linspace(1, 0.5, count),
            labels=np.arange(count),
        )
    return spool


def test_a_folder_of_arrays_is_read_like_a_json(tmp_path):
    spool = spool_of(tmp_path)
    arrays = spool.read()
    path = str(tmp_path / 'regions')
    meta = dict(teacher=dict(model='x'))
    rows = np.eye(4, 6, dtype=np.float16)  # of length 1
    for _ in range(2):  # an older one is replaced
        assert write_region_arrays(path, dict(arrays, embeddings=rows), meta)
    spool.remove()
    assert {p.name for p in tmp_path.iterdir()} == {'regions'}
    regions = read_region_file(path)
    assert isinstance(regions.boxes, np.memmap)
    assert regions.meta['teacher'] == dict(model='x')
    proposer = FileRegions(path, max_regions=2)
    boxes, labels, found = proposer.propose_rows(info('/x/b/1.jpg'))
    assert boxes.tolist() == [[0, 1, 22, 23], [4, 5, 26, 20]]
    assert (boxes.dtype, labels.dtype) == (np.float32, np.int64)
    assert (labels.tolist(), found.tolist()) == ([0, 1], [0, 1])
    assert proposer.propose_rows(info('a/1.jpg'))[0].shape == (0, 4)
    *_, found = proposer.propose_rows(info('/y/2.jpg'))
    assert found.tolist() == [3]
    np.testing.assert_allclose(regions.embed(found), rows[3:], atol=2e-3)
    with pytest.raises(UnreadableImageError, match=r'3\.jpg: not in the r'):
        proposer.propose(info('3.jpg'))
    with pytest.raises(ValueError, match='100 x 80 in the region file'):
        proposer.propose(info('2.jpg', (100, 80)))


def test_damaged_folders_are_named(tmp_path):
    path = str(tmp_path / 'regions')
    arrays = spool_of(tmp_path).read()
    write_region_arrays(path, arrays, {})
    (tmp_path / 'other').mkdir()
    with pytest.raises(FileExistsError, match='other exists and is no region'):
        write_region_arrays(str(tmp_path / 'other'), arrays, {})
    with pytest.raises(ValueError, match="other' is no region file"):
        FileRegions(str(tmp_path / 'other'))
    np.save(tmp_path / 'regions' / 'labels.npy', np.zeros(3, np.int32))
    with pytest.raises(ValueError, match="regions' is a region file of anot"):
        FileRegions(path)
    twice = spool_of(tmp_path, ['a.jpg', 'a.jpg', 'b.jpg']).read()
    with pytest.raises(ValueError, match='two images have the same'):
        write_region_arrays(str(tmp_path / 'new'), twice, {})
    assert not (tmp_path / 'new').exists()


def test_growing_arrays_may_stay_empty(tmp_path):
    array = GrowingArray(tmp_path / 'x', np.float16, (5,))
    array.append(np.zeros((0, 5)))
    assert array.read().shape == (0, 5)


def test_names_that_are_no_utf8():
    assert key_of('caf\udce9.jpg') != key_of('café.jpg')
