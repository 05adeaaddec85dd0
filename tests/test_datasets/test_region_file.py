"""Region files in JSON, and the proposer that reads them."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.logging import MMLogger

from mmfgl.datasets import FileRegions
from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.datasets.region_file import (
    read_region_file,
    write_embeddings,
    write_region_file,
)
from mmfgl.datasets.region_proposers import file_regions
from mmfgl.registry import TASK_UTILS

SHAPE = (80, 100)
IMAGES = [(7, 'a/1.jpg'), (3, 'b/1.jpg'), (5, '2.jpg')]
ROWS = [
    (7, 4, 0.1, [0, 0, 10, 10]),
    (3, 9, 0.5, [5, 5, 20, 20]),
    (7, 9, 0.9, [10, 20, 30, 40]),
    (7, 4, 0.9, [1, 1, 50, 50]),
]


def coco_file(folder, images=IMAGES, rows=ROWS, scores=True):
    annotations = [
        dict(id=10 + i, image_id=image, category_id=category, bbox=box)
        | (dict(score=score) if scores else {})
        for i, (image, category, score, box) in enumerate(rows)
    ]
    images = [
        dict(id=i, file_name=name, width=100, height=80) for i, name in images
    ]
    content = dict(images=images, annotations=annotations)
    content['categories'] = [dict(id=4, name='x'), dict(id=9, name='y')]
    path = folder / 'r.json'
    path.write_text(json.dumps(content))
    return str(path)


def info(path, shape=SHAPE):
    return dict(img_path=path, img_shape=shape)


def test_boxes_and_labels_by_score(tmp_path):
    config = dict(type='mmfgl.FileRegions', ann_file=coco_file(tmp_path))
    proposer = TASK_UTILS.build(config)
    boxes, labels, _ = proposer.propose_rows(info('/x/a/1.jpg'))
    expected = [[10, 20, 40, 60], [1, 1, 51, 51], [0, 0, 10, 10]]
    assert boxes.tolist() == expected
    assert boxes.dtype == np.float32
    assert labels.tolist() == [1, 0, 0]
    assert labels.dtype == np.int64
    # the file name is the end of the path, so folders tell files apart
    other = proposer.propose(info('/x/b/1.jpg'))
    assert other.tolist() == [[5, 5, 25, 25]]
    empty, labels, _ = proposer.propose_rows(info('/y/2.jpg'))
    assert empty.shape == (0, 4)
    assert labels.shape == (0,)
    few = FileRegions(config['ann_file'], max_regions=1)
    assert few.propose(info('a/1.jpg')).tolist() == expected[:1]
    # an image of another size, and of another shape
    boxes = proposer.propose(info('b/1.jpg', (160, 200)))
    assert boxes.tolist() == [[10, 10, 50, 50]]
    with pytest.raises(ValueError, match='100 x 80 in the region file'):
        proposer.propose(info('b/1.jpg', (100, 80)))
    with pytest.raises(UnreadableImageError, match=r'3\.jpg: not in the r'):
        proposer.propose(info('3.jpg'))
    # without scores, the order of the file
    proposer = FileRegions(coco_file(tmp_path, scores=False))
    boxes, labels, _ = proposer.propose_rows(info('a/1.jpg'))
    assert boxes[:, 0].tolist() == [0, 10, 1]
    assert labels.tolist() == [0, 1, 0]


def test_boxes_without_area_in_the_image_are_left_out(tmp_path):
    # one that reaches beyond the image, flat ones, two beside the image
    boxes = [[90, 70, 30, 30], [5, 5, 0, 9], [5, 5, 9, 0], [5, 5, -2, 9]]
    boxes += [[100, 10, 20, 20], [-30, 10, 30, 20], [float('nan'), 5, 9, 9]]
    rows = [(5, 4, 0.5, box) for box in boxes]
    proposer = FileRegions(coco_file(tmp_path, rows=rows))
    boxes, labels, _ = proposer.propose_rows(info('2.jpg'))
    assert boxes.tolist() == [[90, 70, 100, 80]]
    assert labels.tolist() == [0]


def test_two_ids_of_one_file_name_are_one_image(tmp_path):
    images = [(7, 'a.jpg'), (5, 'b.jpg'), (3, 'a.jpg')]
    rows = [(3, 4, 0.1, [1, 1, 5, 5]), (5, 4, 0.5, [2, 2, 5, 5])]
    rows += [(7, 9, 0.9, [3, 3, 5, 5])]
    proposer = FileRegions(coco_file(tmp_path, images, rows))
    boxes, labels, _ = proposer.propose_rows(info('a.jpg'))
    assert boxes[:, 0].tolist() == [3, 1]
    assert labels.tolist() == [1, 0]
    assert proposer.propose(info('b.jpg'))[:, 0].tolist() == [2]


def test_contradictions_are_named(tmp_path):
    file = coco_file(tmp_path, rows=[*ROWS, (99, 4, 0.5, [0, 0, 9, 9])])
    with pytest.raises(
        ValueError, match=r"r\.json': annotation 14 belongs to image 99, which"
    ):
        FileRegions(file)
    file = coco_file(tmp_path, [*IMAGES, (5, '3.jpg')])
    with pytest.raises(ValueError, match=r'id 5 to two files.*2\.jpg.*3\.jpg'):
        FileRegions(file)
    content = json.loads((tmp_path / 'r.json').read_text())
    content['images'][3].update(id=6, file_name='2.jpg', width=90)
    (tmp_path / 'r.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"r\.json' gives '2\.jpg' two sizes"):
        FileRegions(file)


def test_not_a_region_file(tmp_path):
    bad = dict(image_id=1, category_id=1, bbox=[1, 2, 3])
    texts = [
        '{',
        '[]',
        '{"images": []}',
        '{"images": [], "annotations": [{}]}',
    ]
    for text in [*texts, json.dumps(dict(images=[], annotations=[bad]))]:
        (tmp_path / 'r.json').write_text(text)
        with pytest.raises(ValueError, match="r.json' is not in COCO format"):
            FileRegions(str(tmp_path / 'r.json'))
    with pytest.raises(FileNotFoundError, match='propose_regions'):
        FileRegions(str(tmp_path / 'absent.json'))
    with pytest.raises(ValueError, match='max_regions'):
        FileRegions(coco_file(tmp_path), max_regions=0)


def test_a_file_is_read_once_until_it_changes(tmp_path):
    file = coco_file(tmp_path)
    assert read_region_file(file) is read_region_file(file)
    (tmp_path / 'r.json').write_text('{"images": [], "annotations": []}')
    with pytest.raises(UnreadableImageError):
        FileRegions(file).propose(info('2.jpg'))


def test_images_are_looked_up_before_the_first_is_asked_for(
    tmp_path, caplog, monkeypatch
):
    proposer = TASK_UTILS.build(
        dict(
            type='mmfgl.MixedRegions',
            proposers=[
                dict(type='mmfgl.GridRegions'),
                dict(type='mmfgl.FileRegions', ann_file=coco_file(tmp_path)),
            ],
        )
    )
    logger = MMLogger.get_instance('regions', log_level='INFO')
    logger.addHandler(caplog.handler)
    # one image twice in a list, and by a link, is one image
    (tmp_path / 'y').mkdir()
    (tmp_path / '2.jpg').touch()
    (tmp_path / 'y/2.jpg').symlink_to(tmp_path / '2.jpg')
    two = [str(tmp_path / '2.jpg'), str(tmp_path / 'y/2.jpg')]
    proposer.check_images(['/x/a/1.jpg', '/x/b/1.jpg', *two, two[0]])
    (record,) = caplog.records
    assert record.levelname == 'INFO'
    assert '4 boxes in 3 images, 2 clusters' in record.message
    proposer.check_images(['/x/3.jpg', '/x/a/1.jpg', '/x/4.jpg'])
    assert caplog.records[-1].levelname == 'WARNING'
    assert '2 images are not in it: left out' in caplog.records[-1].message
    with pytest.raises(ValueError, match=r"none of the 2 .*, '/x/3.jpg' fir"):
        proposer.check_images(['/x/3.jpg', '/x/4.jpg'])
    words = r"'/x/2.jpg' and '/z/2.jpg' are both '2.jpg' of the region file"
    with pytest.raises(ValueError, match=words):
        proposer.check_images(['/x/2.jpg', '/x/a/1.jpg', '/z/2.jpg'])
    monkeypatch.setattr(file_regions, 'MOST_CHECKED', 2)  # every other one
    proposer.check_images(['/x/2.jpg', '/z/2.jpg', '/x/a/1.jpg', '/3.jpg'])


def test_what_is_written_is_read(tmp_path):
    images = [dict(id=4, file_name='a.jpg'), dict(id=2, file_name='b.jpg')]
    boxes = np.array([[1.25, 2, 30, 40], [0, 0, 9.5, 9]], np.float32)
    regions = [
        SimpleNamespace(img_shape=SHAPE, boxes=boxes, labels=np.array([2, 0])),
        SimpleNamespace(img_shape=SHAPE, boxes=boxes[:0], labels=boxes[:0, 0]),
    ]
    path = str(tmp_path / 'new' / 'r.json')
    assert write_region_file(path, images, regions) == 2
    proposer = FileRegions(path)
    found, labels, _ = proposer.propose_rows(info('a.jpg'))
    np.testing.assert_allclose(found, boxes)
    assert labels.tolist() == [2, 0]
    assert proposer.propose(info('b.jpg')).shape == (0, 4)
    content = json.loads((tmp_path / 'new' / 'r.json').read_text())
    assert [c['id'] for c in content['categories']] == [1, 2, 3]
    assert [a['id'] for a in content['annotations']] == [1, 2]
    assert content['annotations'][0]['area'] == pytest.approx(28.75 * 38)


def embeddings_of(count, seed=0):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 6)).astype(np.float16)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_embeddings_beside_the_file_follow_its_order(tmp_path):
    path = coco_file(tmp_path)
    content = json.loads((tmp_path / 'r.json').read_text())
    rows = embeddings_of(len(ROWS))
    content['info'] = dict(embeddings=write_embeddings(path, rows))
    (tmp_path / 'r.json').write_text(json.dumps(content))
    regions = read_region_file(path)
    assert isinstance(regions.embeddings, np.memmap)
    _, _, found = FileRegions(path).propose_rows(info('a/1.jpg'))
    # the annotations of that image by falling score are the last two and 0
    np.testing.assert_allclose(
        regions.embed(found), rows[[2, 3, 0]], atol=2e-3
    )
    assert regions.embed(found[:0]).shape == (0, 6)


def test_embeddings_of_another_file_are_refused(tmp_path):
    path = coco_file(tmp_path)
    content = json.loads((tmp_path / 'r.json').read_text())
    beside = write_embeddings(path, embeddings_of(3))
    content['info'] = dict(embeddings=beside)
    (tmp_path / 'r.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='4 regions but .* 3 embeddings'):
        read_region_file(path)
    (tmp_path / beside).unlink()
    content['licenses'] = []  # read anew
    (tmp_path / 'r.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='move both files'):
        read_region_file(path)


def test_embeddings_of_an_older_file_are_removed(tmp_path):
    path = str(tmp_path / 'r.json')
    old = write_embeddings(path, embeddings_of(2))
    new = write_embeddings(path, embeddings_of(2, seed=1))
    assert old != new
    write_region_file(path, [], [], dict(embeddings=new))
    assert {p.name for p in tmp_path.iterdir()} == {'r.json', new}
    write_region_file(path, [], [])
    assert [p.name for p in tmp_path.iterdir()] == ['r.json']


@pytest.mark.parametrize(
    ('listed', 'path', 'found'),
    [
        ('/x/photos/1.jpg', '/x/photos/1.jpg', True),
        ('/x/photos/1.jpg', '/y/x/photos/1.jpg', False),
        ('../photos/1.jpg', '/x/photos/1.jpg', True),
        ('../photos/1.jpg', '/x/empty/../photos/1.jpg', True),
        ('./day\\1.jpg', '/x/day/1.jpg', True),
        ('day/1.jpg', '/x/friday/1.jpg', False),
    ],
)
def test_names_of_images_elsewhere(tmp_path, listed, path, found):
    file = read_region_file(coco_file(tmp_path, [(7, listed)], ROWS[:1]))
    assert (file.find(path) is not None) == found


def test_names_that_cannot_be_told_apart(tmp_path):
    path = coco_file(tmp_path, [(7, '../a/1.jpg'), (3, 'a/1.jpg')], ROWS[:1])
    with pytest.raises(ValueError, match='cannot be told apart'):
        read_region_file(path)


def test_byte_order_mark(tmp_path):
    path = coco_file(tmp_path)
    content = Path(path).read_bytes()
    Path(path).write_bytes(b'\xef\xbb\xbf' + content)
    assert len(read_region_file(path).images) == 3
