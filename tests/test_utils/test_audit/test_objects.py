"""What would train on wrong objects is refused, what is odd is told."""

import math

import numpy as np
import pytest
from mmdet.datasets import CocoDataset

from mmfgl.utils.audit import Use, audit_coco
from tests.coco_sets import (
    CLASSES,
    annotation,
    audit,
    boxes,
    coco_content,
    each,
    set_entry,
    write_coco,
)


def two_in_use(content):
    content['categories'].append(dict(id=9, name='disc'))
    content['annotations'][0]['category_id'] = 9


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (each('annotations', area=0), '3 with an area of 0'),
        (each('annotations', iscrowd=1), '3 crowd regions'),
        (each('annotations', ignore=1), '3 marked ignore'),
        (boxes(lambda b: [v / 64 for v in b]), 'between 0 and 1'),
        (boxes(lambda b: [b[0], b[1], -b[2], b[3]]), '3 of negative width'),
        (boxes(lambda b: [99, b[1], b[2], b[3]]), '3 outside their image'),
        (lambda c: c.update(annotations=[]), 'the file has no object'),
        (lambda c: c.update(images=[]), '3 of images that the file does not'),
        (set_entry('annotations', 2, bbox=[math.nan, 1, 2, 3]), 'bbox [nan'),
        (set_entry('annotations', 2, bbox=[1, 2, math.inf, 3]), 'finite'),
        (set_entry('annotations', 2, bbox=[1, 2, 3]), 'bbox [1, 2, 3]'),
        (set_entry('annotations', 2, bbox=None), 'annotation 3 of'),
        (set_entry('annotations', 2, bbox=['1,5', 2, 3, 4]), '1,5'),
        (set_entry('annotations', 2, bbox=dict(x=1)), "{'x': 1}"),
        (set_entry('annotations', 2, iscrowd='no'), 'neither 0 nor 1'),
        (set_entry('annotations', 2, image_id=None), 'without image_id: 1'),
        (set_entry('annotations', 2, image_id=[1]), 'without image_id: 1'),
        (set_entry('annotations', 2, category_id=None), 'category_id: 1'),
        (set_entry('images', 1, id=1), "id 1: 'train1.png' and 'train2.png'"),
        (set_entry('images', 1, id=None), 'images without a usable id: 1'),
        (set_entry('images', 1, file_name=None), 'without file_name: 1'),
        (set_entry('images', 1, file_name='s3://b/c.jpg'), 'named by URL: 1'),
        (each('images', width=48, height=64), 'is 64 x 48, the labels say 48'),
        (each('images', file_name='no.png'), 'without a file in'),
        (set_entry('categories', 1, id=1), "id 1: 'disc' and 'square'"),
        (set_entry('categories', 1, id=None), 'categories without a usable'),
        (set_entry('categories', 1, name=None), 'categories without a name'),
        (set_entry('categories', 1, name=' '), 'categories without a name'),
        (two_in_use, "'disc': ids [1, 9]"),
        (
            set_entry('categories', 0, name='disc '),
            "'disc' is 'disc ' in the file",
        ),
        (
            set_entry('categories', 0, name=0),
            "missing: 'disc'; the file has: '0', 'square'",
        ),
        (lambda c: c['categories'].reverse(), 'another order'),
    ],
)
def test_refused(root, change, text):
    _, report = audit(root, change)
    assert text in report.failure()
    assert report.path in report.failure()


def test_objects_that_are_listed_again(root):
    def again(content):
        first = content['annotations'][0]
        content['annotations'].append(dict(first, id=99))

    _, report = audit(root, again)
    (finding,) = report.findings()
    assert finding.level == 'warning' and finding.number == 1
    assert 'same image, class and box' in str(finding)
    assert report.objects['used'] == 4


def test_what_is_left_out_on_purpose(root):
    # nothing to learn from is no reason not to test
    for change in (
        lambda c: c.update(annotations=[]),
        each('annotations', iscrowd=1),
    ):
        _, report = audit(root, change, train=False)
        assert not report.failure() and report.findings('warning')
    _, report = audit(root, boxes(lambda b: [v / 64 for v in b]), train=False)
    assert 'between 0 and 1' in report.failure()
    # unlabelled images of a semi-supervised run
    _, report = audit(
        root,
        lambda c: c.pop('annotations') + c.pop('categories'),
        labels=False,
    )
    assert not report.findings('error', 'warning')
    # a subset of the classes
    _, report = audit(root, lambda c: None, classes=('square',))
    assert not report.findings()
    assert 'left out: 2 of classes that the config' in report.summary()


def test_filtered_images(root):
    def change(content):
        content['annotations'] = content['annotations'][:2]

    keep = dict(filter_empty=True, min_size=32)
    _, report = audit(root, change, **keep)
    assert '1 images without an object' in report.summary()
    _, report = audit(root, change, filter_empty=True, min_size=50)
    assert '1 smaller than min_size=50' in report.failure()


def test_corners(root):
    def corners(box):
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]

    _, report = audit(root, boxes(corners))
    (finding,) = report.findings()
    assert finding.level == 'warning' and finding.number == 2
    assert 'as corners' in str(finding)
    assert [ann['id'] for _, ann in report.odd] == [1, 3]
    _, report = audit(root, boxes(lambda b: [64 - b[2] / 2, 24, b[2], b[3]]))
    assert 'as centres and sizes' in str(report.findings()[0])
    # one box that leaves its image is no more than that
    _, report = audit(root, set_entry('annotations', 0, bbox=[-9, 1, 20, 5]))
    (finding,) = report.findings()
    assert finding.number == 1 and 'corners' not in str(finding)


def test_percent(root):
    def change(content):
        content['images'] = [
            dict(id=1, file_name='no.png', width=640, height=480)
        ]
        content['annotations'] = [
            annotation(i, 1, (8 * i, 50, 9.5, 50)) for i in range(1, 12)
        ]

    use = Use(str(root / 'train.json'), None)
    write_coco(root, 'train', change)
    (finding,) = audit_coco(use)[1].findings()
    assert 'percent' in str(finding)


def test_counts_are_those_of_coco_dataset(root):
    """Random boxes, flags and categories, some of them wrong."""
    rng = np.random.default_rng(0)
    content = coco_content('train')
    content['categories'].append(dict(id=3, name='star'))
    content['annotations'] = [
        annotation(
            number,
            int(rng.integers(1, 4)),
            [
                int(v)
                for v in (*rng.integers(-40, 80, 2), *rng.integers(-1, 40, 2))
            ],
            int(rng.integers(1, 5)),
            ignore=int(rng.random() < 0.1),
        )
        for number in range(1, 400)
    ]
    for ann in content['annotations']:
        ann['iscrowd'] = int(rng.random() < 0.1)
        ann['area'] *= int(rng.random() < 0.9)
    _, report = audit(root, lambda spoilt: spoilt.update(content))
    dataset = CocoDataset(
        ann_file=str(root / 'train.json'),
        data_prefix=dict(img=str(root / 'train')),
        metainfo=dict(classes=CLASSES),
        serialize_data=False,
    )
    flags = [
        instance['ignore_flag']
        for info in dataset.data_list
        for instance in info['instances']
    ]
    crowd = 'crowd regions (iscrowd=1), which only mask false positives'
    assert report.objects['used'] == flags.count(0) > 20
    assert report.objects[crowd] == flags.count(1) > 0
    assert sum(report.objects.values()) == 399
    assert len(report.objects) == 10
