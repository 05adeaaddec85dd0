"""What can be computed is filled in; what is no COCO JSON is named."""

import gzip
import json

import pytest

from mmfgl.utils.audit import Use, audit_coco, write_mended
from tests.coco_sets import (
    CLASSES,
    audit,
    both,
    boxes,
    coco_content,
    each,
    set_ids,
)


def grouping_category(content):
    content['categories'].insert(0, dict(id=0, name='disc'))


def listed_twice(content):
    for entries in content.values():
        entries.append(dict(entries[0]))


def test_sound(root):
    content, report = audit(root)
    assert content == coco_content('train')
    assert not report.findings()
    assert report.objects == dict(used=3)


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (each('annotations', area=None), 'without area'),
        (set_ids(str, 'annotations', 'area'), 'areas in text'),
        (each('annotations', iscrowd=None), 'without iscrowd'),
        (each('annotations', iscrowd='0'), 'iscrowd is a number in text'),
        (each('annotations', id=None), 'without id'),
        (set_ids(lambda i: f'ann-{i}'), 'with an unusable id'),
        (set_ids(lambda i: i + 10**20), 'with an unusable id'),
        (set_ids(str), 'whose id is a number in text'),
        (set_ids(float), 'whose id is a number in text'),
        (set_ids(lambda i: 1), "with another one's id: 2"),
        (
            set_ids(str, 'annotations', 'category_id'),
            'category_id is a number',
        ),
        (set_ids(str, 'categories', 'id'), 'categories whose id is a number'),
        (set_ids(str, 'annotations', 'image_id'), 'image_id is a number'),
        (set_ids(str, 'images', 'id'), 'images whose id is a number'),
        (boxes(lambda b: [str(v) for v in b]), 'boxes with numbers in text'),
        (each('images', width=None, height=None), 'without width and height'),
        (each('images', width=0, height=0), 'without width and height'),
        (each('images', width=-64), 'without width and height'),
        (each('images', width='64', height=48.0), 'size is text or decimals'),
        (each('images', width=65), 'off by a pixel or two'),
        (grouping_category, "'disc': id 1 of [0, 1]"),
        (listed_twice, 'images listed twice: 1'),
    ],
)
def test_mended(root, change, text):
    content, report = audit(root, change)
    assert content == coco_content('train')
    assert text in '\n'.join(map(str, report.findings('repair')))
    assert not report.findings('error', 'warning')
    path = write_mended(content, report.path, str(root / 'out'))
    mended = Use(path, str(root / 'train'), CLASSES)
    assert not audit_coco(mended)[1].findings()


def test_ids_that_numpy_would_mix(root):
    def change(content):
        content['images'][0]['id'] = 'first'
        for ann in content['annotations']:
            if ann['image_id'] == 1:
                ann['image_id'] = 'first'

    content, _ = audit(root, change)
    assert content == coco_content('train')
    # an annotation id of 0 is COCOeval's 'no match'
    content, _ = audit(root, set_ids(lambda i: i - 1))
    assert [a['id'] for a in content['annotations']] == [3, 1, 2]
    # all text is no fault
    both_ids = both(
        set_ids('img-{}'.format, 'images'),
        set_ids('img-{}'.format, 'annotations', 'image_id'),
    )
    content, report = audit(root, both_ids)
    assert content['images'][0]['id'] == 'img-1' and not report.findings()


def test_box_and_area_of_a_segmentation(root):
    def change(content):
        for ann in content['annotations']:
            x, y, w, h = ann.pop('bbox')
            del ann['area']
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            ann['segmentation'] = polygon if ann['id'] == 1 else [polygon]
        counts = [2 * 48 + 2, *([12, 36] * 10)]
        counts[-1] += 64 * 48 - sum(counts)
        rle = dict(size=[48, 64], counts=counts)
        content['annotations'][1].update(segmentation=rle, iscrowd=1)

    content, report = audit(root, change, masks=True)
    assert not report.findings('error')
    for ann, old in zip(
        content['annotations'],
        coco_content('train')['annotations'],
        strict=True,
    ):
        assert ann['bbox'] == old['bbox'] and ann['area'] == old['area']
    assert len(content['annotations'][0]['segmentation']) == 1


@pytest.mark.parametrize(
    ('data', 'text'),
    [
        (b'', 'is empty'),
        (gzip.compress(b'{}', mtime=0), 'gunzip'),
        (b'version https://git-lfs.github.com/spec/v1', 'git lfs pull'),
        (b'<!DOCTYPE html>', 'HTML'),
        (b'{"images": [{"id', 'not whole'),
        ('{"images": ["ä"]}'.encode('latin-1'), 'not whole'),
        (b'[]', 'holds a list'),
        (b'{"images": [], "annotations": []}', "'categories' is missing"),
        (b'{"images": {}}', "'images' is of type dict"),
        (b'{"images": [1]}', "entry 0 of 'images' is 1"),
    ],
)
def test_no_coco_json(root, data, text):
    (root / 'train.json').write_bytes(data)
    with pytest.raises(ValueError, match='train.json') as error:
        audit(root)
    assert text in str(error.value)


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_byte_order_mark(root, encoding):
    text = json.dumps(coco_content('train'))
    (root / 'train.json').write_bytes(text.encode(encoding))
    content, report = audit(root)
    assert content == coco_content('train')
    assert 'byte order mark' in str(report.findings('repair')[0])
