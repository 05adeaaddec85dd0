"""Parts of propose_regions.py."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from region_search.cache import ProposalCache
from region_search.colour_descriptors import describe_colours
from region_search.teacher_embeddings import (
    TeacherCache,
    cluster_rows,
    reduce_embeddings,
)

from mmfgl.datasets.image_reader import UnreadableImageError


class Teacher:
    """Describes a region by its mean colour, and counts its images."""

    channels = 3

    def __init__(self, sha256='0', config='mean'):
        self.meta, self.config = dict(model='mean', sha256=sha256), config
        self.calls = 0

    def embed(self, img, boxes):
        self.calls += 1
        rows = [
            img[int(y) : int(y) + 4, int(x) : int(x) + 4] for x, y, *_ in boxes
        ]
        rows = np.array([row.mean((0, 1)) for row in rows]).reshape(-1, 3)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_cache_follows_image_boxes_and_teacher(tmp_path):
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, np.full((20, 20, 3), (3, 4, 0), np.uint8))
    boxes = np.array([[1, 2, 5, 6], [5, 5, 9, 9]], np.float32)
    regions = SimpleNamespace(key='k', boxes=boxes)
    teacher = Teacher()
    cache = TeacherCache(teacher, str(tmp_path))
    found = cache(path, regions)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, [[0.6, 0.8, 0]] * 2, atol=1e-3)
    assert np.array_equal(
        TeacherCache(teacher, tmp_path)(path, regions), found
    )
    assert teacher.calls == 1
    # other boxes, another image, a damaged entry, another teacher
    cache(path, SimpleNamespace(key='k', boxes=boxes[:1]))
    cache(path, SimpleNamespace(key='l', boxes=boxes))
    assert teacher.calls == 3
    for entry in tmp_path.glob('*/*/*.npy'):
        entry.write_bytes(b'damaged')
    assert np.array_equal(cache(path, regions), found)
    assert teacher.calls == 4
    for other in (Teacher(sha256='1'), Teacher(config='its last map')):
        TeacherCache(other, str(tmp_path))(path, regions)
        assert other.calls == 1
    (tmp_path / 'a.png').write_bytes(b'damaged meanwhile')
    with pytest.raises(UnreadableImageError, match='a.png'):
        cache(path, SimpleNamespace(key='m', boxes=boxes))


def test_cache_follows_region_files(tmp_path):
    for name in ('a.png', 'b.png'):  # the same bytes
        cv2.imwrite(str(tmp_path / name), np.zeros((50, 50, 3), np.uint8))
    file = tmp_path / 'r.json'

    def boxes_after(*boxes):
        rows = [(i, [*box, 10, 10]) for i, box in enumerate(boxes)]
        size = dict(width=50, height=50)
        images = [
            dict(size, id=i, file_name='ab'[i] + '.png') for i, _ in rows
        ]
        annotations = [
            dict(id=i, image_id=i, category_id=1, bbox=box) for i, box in rows
        ]
        content = dict(images=images, annotations=annotations)
        file.write_text(json.dumps(dict(content, categories=[dict(id=1)])))
        proposer = dict(type='mmfgl.FileRegions', ann_file=str(file))
        cache = ProposalCache(proposer, str(tmp_path / 'cache'))
        found = [cache(str(tmp_path / name)) for name in ('a.png', 'b.png')]
        return [x.boxes[0, :2].tolist() for x in found], found[0].cached

    assert boxes_after([1, 2], [3, 4]) == ([[1, 2], [3, 4]], False)
    assert boxes_after([1, 2], [3, 4]) == ([[1, 2], [3, 4]], True)
    assert boxes_after([5, 6], [3, 4]) == ([[5, 6], [3, 4]], False)


def test_reduction_keeps_neighbours(tmp_path, monkeypatch):
    pytest.importorskip('sklearn')
    rng = np.random.default_rng(0)
    groups = rng.normal(size=(4, 12))
    features = groups.repeat(50, 0) + 0.05 * rng.normal(size=(200, 12))
    monkeypatch.setattr('mmfgl.datasets.region_arrays.CHUNK', 64)
    found = reduce_embeddings(features.astype(np.float16), 16, tmp_path / 'e')
    assert found.shape == (200, 16) and found.dtype == np.float16
    assert not found[:, 12:].any()  # no more than 12 components
    norms = np.linalg.norm(found.astype(np.float32), axis=1)
    np.testing.assert_allclose(norms, 1, atol=2e-3)
    cosines = found.astype(np.float32) @ found.T.astype(np.float32)
    same = np.equal.outer(np.arange(200) // 50, np.arange(200) // 50)
    assert cosines[same].min() > 0.7 > cosines[~same].max()
    labels = cluster_rows(found, 4, tmp_path / 'c')
    assert [len(set(part)) for part in np.split(labels, 4)] == [1] * 4
    assert len(set(labels)) == 4
    with pytest.raises(ValueError, match='200 regions cannot make 201'):
        cluster_rows(found, 201, tmp_path / 'd')
    empty = reduce_embeddings(features[:0], 16, tmp_path / 'f')
    assert empty.shape == (0, 16)


def test_colour_descriptors():
    rng = np.random.default_rng(0)
    img = np.zeros((60, 120, 3), np.uint8)
    img[:, :60:4] = 255  # stripes down, then stripes across
    img[::4, 60:] = 255
    boxes = np.array(
        [[0, 0, 40, 40], [10, 10, 50, 50], [70, 10, 110, 50]], np.float32
    )
    rows = describe_colours(img, boxes)
    assert rows.shape == (3, 168)
    assert rows.dtype == np.float32
    near = np.linalg.norm(rows[0] - rows[1])
    assert near < 0.5 * np.linalg.norm(rows[0] - rows[2])
    assert describe_colours(img, boxes[:0]).shape == (0, 168)
    edge = np.array([[119.5, 59.5, 120, 60], [130, 70, 140, 80]])
    noise = rng.integers(0, 256, (60, 120, 3), np.uint8)
    assert np.isfinite(describe_colours(noise, edge)).all()
