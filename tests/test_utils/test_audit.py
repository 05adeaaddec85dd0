"""The audit of annotations: what is mended, refused, and only told."""

import gzip
import json
import logging
import math
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch.distributed as dist
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from PIL import Image

from mmfgl.utils import cpu_dist
from mmfgl.utils.audit import (
    Use,
    audit_coco,
    audit_config,
    headers,
    write_mended,
)
from mmfgl.utils.audit.headers import read_headers
from mmfgl.utils.audit.ranks import once_a_machine
from tools.analysis_tools import audit_coco as tool

CLASSES = ('disc', 'square')
SIZE = (64, 48)


def annotation(number, image, box, category=1, **more):
    return dict(
        id=number,
        image_id=image,
        category_id=category,
        bbox=list(box),
        area=box[2] * box[3],
        iscrowd=0,
        **more,
    )


def content_of(split):
    return dict(
        images=[
            dict(id=i, file_name=f'{split}{i}.png', width=64, height=48)
            for i in (1, 2)
        ],
        annotations=[
            annotation(1, 1, (30, 20, 20, 24)),
            annotation(2, 1, (2, 2, 10, 12), 2),
            annotation(3, 2, (40, 30, 16, 16)),
        ],
        categories=[dict(id=1, name='disc'), dict(id=2, name='square')],
    )


@pytest.fixture(scope='module')
def pixels(tmp_path_factory):
    root = tmp_path_factory.mktemp('pixels')
    for shade, split in ((10, 'train'), (20, 'val')):
        (root / split).mkdir()
        for i in (1, 2):
            image = Image.new('RGB', SIZE, (shade, i, 0))
            image.save(root / split / f'{split}{i}.png')
    return root


@pytest.fixture
def root(pixels, tmp_path):
    """A sound set that a test may spoil."""
    shutil.copytree(pixels, tmp_path, dirs_exist_ok=True)
    for split in ('train', 'val'):
        save(tmp_path, split, content_of(split))
    return tmp_path


def save(root, split, content):
    (root / f'{split}.json').write_text(json.dumps(content), encoding='utf-8')


def audit(root, change=None, split='train', **use):
    """Spoil the annotations and audit them; the file stays as it is."""
    if change is not None:
        content = content_of(split)
        change(content)
        save(root, split, content)
    path = root / f'{split}.json'
    before = path.read_bytes()
    use = dict(classes=CLASSES) | use
    use = Use(str(path), str(root / split), **use)
    result = audit_coco(use)
    assert path.read_bytes() == before
    return result


def each(key, **values):
    """A change of every entry of a list; a value ``None`` takes a key out."""

    def change(content):
        for entry in content[key]:
            for name, value in values.items():
                entry[name] = value(entry) if callable(value) else value
                if value is None:
                    del entry[name]

    return change


def boxes(function):
    def change(content):
        for ann in content['annotations']:
            ann['bbox'] = function(ann['bbox'])

    return change


def text_of(key, name):
    def change(content):
        for entry in content[key]:
            entry[name] = str(entry[name])

    return change


def set_ids(function, key='annotations', name='id'):
    def change(content):
        for entry in content[key]:
            entry[name] = function(entry[name])

    return change


def both(*changes):
    def change(content):
        for one in changes:
            one(content)

    return change


def grouping_category(content):
    content['categories'].insert(0, dict(id=0, name='disc'))


def listed_twice(content):
    for entries in content.values():
        entries.append(dict(entries[0]))


def test_sound(root):
    content, report = audit(root)
    assert content == content_of('train')
    assert not report.findings()
    assert report.objects == dict(used=3)


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (each('annotations', area=None), 'without area'),
        (text_of('annotations', 'area'), 'areas in text'),
        (each('annotations', iscrowd=None), 'without iscrowd'),
        (each('annotations', iscrowd='0'), 'iscrowd is a number in text'),
        (each('annotations', id=None), 'without id'),
        (set_ids(lambda i: f'ann-{i}'), 'with an unusable id'),
        (set_ids(lambda i: i + 10**20), 'with an unusable id'),
        (set_ids(str), 'whose id is a number in text'),
        (set_ids(float), 'whose id is a number in text'),
        (set_ids(lambda i: 1), "with another one's id: 2"),
        (text_of('annotations', 'category_id'), 'category_id is a number'),
        (text_of('categories', 'id'), 'categories whose id is a number'),
        (text_of('annotations', 'image_id'), 'image_id is a number'),
        (text_of('images', 'id'), 'images whose id is a number'),
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
    assert content == content_of('train')
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
    assert content == content_of('train')
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
        content_of('train')['annotations'],
        strict=True,
    ):
        assert ann['bbox'] == old['bbox'] and ann['area'] == old['area']
    assert len(content['annotations'][0]['segmentation']) == 1


@pytest.mark.parametrize(
    ('data', 'text'),
    [
        (b'', 'is empty'),
        (gzip.compress(b'{}'), 'gunzip'),
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
    text = json.dumps(content_of('train'))
    (root / 'train.json').write_bytes(text.encode(encoding))
    content, report = audit(root)
    assert content == content_of('train')
    assert 'byte order mark' in str(report.findings('repair')[0])


def name_of(value, key='name'):
    entries = 'categories' if key == 'name' else 'images'
    return each(entries, **{key: lambda e: value if e['id'] == 1 else e[key]})


def set_entry(key, index, **values):
    return lambda content: content[key][index].update(values)


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
        (each('images', width=48, height=64), 'is 64 x 48, the JSON says 48'),
        (each('images', file_name='no.png'), 'without a file in'),
        (set_entry('categories', 1, id=1), "id 1: 'disc' and 'square'"),
        (set_entry('categories', 1, id=None), 'categories without a usable'),
        (set_entry('categories', 1, name=None), 'categories without a name'),
        (two_in_use, "'disc': ids [1, 9]"),
        (name_of('disc '), "'disc' is 'disc ' in the file"),
        (name_of(0), "missing: 'disc'; the file has: 0, 'square'"),
        (lambda c: c['categories'].reverse(), 'another order'),
    ],
)
def test_refused(root, change, text):
    _, report = audit(root, change)
    assert text in report.failure()
    assert report.path in report.failure()


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
    spoil(root, 'train', change)
    (finding,) = audit_coco(use)[1].findings()
    assert 'percent' in str(finding)


def test_counts_are_those_of_coco_dataset(root):
    """Random boxes, flags and categories, some of them wrong."""
    rng = np.random.default_rng(0)
    content = content_of('train')
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
    save(root, 'train', content)
    _, report = audit(root)
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


def save_turned(path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.open(path).save(path, exif=exif)


def test_images_turned_by_exif(root):
    path = root / 'train' / 'train1.png'
    save_turned(path, 6)
    _, report = audit(root)
    assert 'EXIF' in report.failure() and "'train1.png'" in report.failure()
    assert not audit(root, turned=False)[1].findings()
    _, report = audit(root, set_entry('images', 0, width=48, height=64))
    assert [f.level for f in report.findings()] == ['note']
    save_turned(path, 3)
    _, report = audit(root, lambda c: None)
    assert [f.level for f in report.findings()] == ['warning']
    for turn in (1, 99):
        save_turned(path, turn)
        assert not audit(root)[1].findings()


def test_bad_files_are_named(root):
    (root / 'train' / 'train1.png').write_bytes(b'')
    _, report = audit(root)
    assert 'no readable image: 1' in str(report.findings('warning')[0])
    assert "'train1.png'" in str(report.findings('warning')[0])
    (root / 'train' / 'train1.png').unlink()
    (finding,) = audit(root)[1].findings()
    assert 'images without a file: 1' in str(finding)
    content, report = audit(root, each('images', width=None))
    assert [image['id'] for image in content['images']] == [2]
    assert 'neither size nor readable file: 1' in str(report.findings()[-2])
    # found one folder higher
    change = each('images', file_name=lambda e: f'train/train{e["id"]}.png')
    failure = audit(root, change)[1].failure()
    assert f'set data_prefix.img to {root}, where they are' in failure


def test_windows_paths(root):
    (root / 'train' / 'a').mkdir()
    for i in (1, 2):
        path = root / 'train' / f'train{i}.png'
        path.rename(root / 'train' / 'a' / path.name)
    change = each('images', file_name=lambda e: f'a\\train{e["id"]}.png')
    content, report = audit(root, change)
    assert content['images'][0]['file_name'] == 'a/train1.png'
    assert 'backslashes' in str(report.findings('repair')[0])


def test_headers_are_remembered(root, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(root / 'cache'))
    monkeypatch.setattr(headers, 'MANY', 2)
    folder, names = str(root / 'train'), ['train1.png', 'train2.png', 'no.png']
    found = read_headers(folder, names)
    assert found[0][2:] == (64, 48, 1) and found[2] is None
    opened = []
    original = Image.open
    monkeypatch.setattr(
        Image, 'open', lambda path: opened.append(path) or original(path)
    )
    assert read_headers(folder, names) == found and not opened
    Image.new('RGB', (9, 8)).save(root / 'train' / 'train2.png')
    opened.clear()
    assert read_headers(folder, names)[1].upright == (9, 8)
    assert [path.endswith('train2.png') for path in opened] == [True]
    # a cache that cannot be written, or is damaged, only costs time
    (store,) = (root / 'cache').rglob('*.json')
    store.write_text('[')
    (root / 'file').touch()
    assert read_headers(folder, names)[0] == found[0]
    monkeypatch.setenv('XDG_CACHE_HOME', str(root / 'file'))
    assert read_headers(folder, names)[0] == found[0]


@pytest.fixture
def cfg(root):
    def loader(split):
        dataset = dict(
            type='CocoDataset',
            data_root=str(root),
            ann_file=f'{split}.json',
            data_prefix=dict(img=split),
            metainfo=dict(classes=CLASSES),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
            ],
        )
        return dict(dataset=dataset)

    metric = dict(type='CocoMetric', ann_file=str(root / 'val.json'))
    return Config(
        dict(
            work_dir=str(root / 'work'),
            model=dict(bbox_head=dict(num_classes=2)),
            train_dataloader=loader('train'),
            val_dataloader=loader('val'),
            val_evaluator=metric,
        )
    )


def spoil(root, split, change):
    content = content_of(split)
    change(content)
    save(root, split, content)


def test_config_is_pointed_at_mended_files(root, cfg, caplog):
    audit_config(cfg)
    assert cfg.val_dataloader.dataset.ann_file == 'val.json'
    assert not (root / 'work').exists()
    # through wrappers, too
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dataset
    )
    cfg.val_evaluator = [cfg.val_evaluator]
    for split in ('train', 'val'):
        spoil(root, split, each('annotations', area=None))
    with caplog.at_level(logging.INFO):
        audit_config(cfg)
    dataset = cfg.train_dataloader.dataset.dataset
    assert dataset.ann_file.startswith(str(root / 'work' / 'annotations'))
    val = cfg.val_dataloader.dataset.ann_file
    assert cfg.val_evaluator[0].ann_file == val != str(root / 'val.json')
    assert json.loads(Path(val).read_text()) == content_of('val')


def test_config_names_all_files(root, cfg):
    for split in ('train', 'val'):
        spoil(root, split, set_entry('images', 1, id=1))
    with pytest.raises(ValueError, match=r'(?s)train2.png.*val2.png'):
        audit_config(cfg)
    audit_config(cfg, loaders=[])


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda c: c['images'].pop(), "'val2.png', id 2"),
        (name_of('other.png', 'file_name'), "'other.png' and 'val1.png'"),
        (set_entry('annotations', 0, bbox=[1, 1, 9, 9]), 'has other boxes'),
        (
            both(
                set_ids(lambda i: i + 5, 'categories'),
                set_ids(lambda i: i + 5, 'annotations', 'category_id'),
            ),
            'ids of classes',
        ),
    ],
)
def test_evaluator_of_other_images(root, cfg, change, text):
    content = content_of('val')
    change(content)
    save(root, 'other', content)
    cfg.val_evaluator.ann_file = str(root / 'other.json')
    shutil.copy(root / 'val' / 'val1.png', root / 'val' / 'other.png')
    with pytest.raises(ValueError, match='val_evaluator reads') as error:
        audit_config(cfg)
    assert text in str(error.value)
    save(root, 'other', content_of('val'))
    audit_config(cfg)
    # a data set without boxes, or several data sets
    spoil(root, 'val', lambda c: c.update(annotations=[]))
    audit_config(cfg)
    datasets = [cfg.val_dataloader.dataset, cfg.train_dataloader.dataset]
    cfg.val_dataloader.dataset = dict(type='ConcatDataset', datasets=datasets)
    with pytest.raises(ValueError, match='several data sets have an image'):
        audit_config(cfg)
    cfg.val_evaluator = dict(
        type='MultiDatasetsEvaluator', metrics=[cfg.val_evaluator]
    )
    audit_config(cfg)


def test_classwise_takes_ids_in_order(root, cfg):
    def change(content):
        content['categories'] = [
            dict(id=7, name='disc'),
            dict(id=2, name='square'),
        ]

    spoil(root, 'val', change)
    cfg.val_evaluator.classwise = True
    with pytest.raises(ValueError, match='do not ascend'):
        audit_config(cfg)


def test_masks_are_asked_for(root, cfg):
    cfg.val_evaluator.metric = ['bbox', 'segm']
    with pytest.raises(ValueError, match='without segmentation.*: 3') as error:
        audit_config(cfg)
    assert 'annotation 1 of' in str(error.value)
    assert 'fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py' in str(error.value)


def test_images_in_train_and_val(root, cfg, caplog, monkeypatch):
    shutil.copy(root / 'train/train2.png', root / 'val/val1.png')
    lines = []
    monkeypatch.setattr(
        'mmfgl.utils.audit.config.print_log',
        lambda text, *args: lines.append((text, *args[1:])),
    )
    audit_config(cfg)
    (line,) = [text for text, *level in lines if level == [logging.WARNING]]
    assert 'evaluated on too: 1;' in line
    assert 'train2.png' in line and 'val1.png' in line


@pytest.mark.parametrize(
    'change',
    [
        dict(type='CocoPanopticDataset'),
        dict(type='VOCDataset'),
        dict(ann_file='s3://bucket/train.json'),
        dict(backend_args=dict(backend='petrel')),
    ],
)
def test_other_data_sets_pass(cfg, change):
    del cfg.model.bbox_head
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.update(dict(ann_file='none.json') | change)
    audit_config(cfg)


def test_config_mistakes(cfg):
    cfg.model.bbox_head.num_classes = 3
    with pytest.raises(ValueError, match='num_classes=3, .* 2 classes'):
        audit_config(cfg)
    cfg.model.bbox_head.num_classes = 2
    dataset = cfg.train_dataloader.dataset
    dataset.metainfo.classes = 'disc'
    with pytest.raises(ValueError, match="needs a comma.*'disc',"):
        audit_config(cfg)
    dataset.metainfo.classes = ('disc', 'disc')
    with pytest.raises(ValueError, match='twice'):
        audit_config(cfg)
    dataset.metainfo.classes = CLASSES
    del dataset.data_prefix
    with pytest.raises(ValueError, match='data_prefix'):
        audit_config(cfg)


def test_all_processes_share_the_outcome(monkeypatch):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    variables = dict(RANK=0, WORLD_SIZE=1, LOCAL_RANK=0, MASTER_PORT=port)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setattr(cpu_dist, 'get_device', lambda: 'cpu')
    cfg = Config(dict(launcher='pytorch'))
    done = []

    def fail():
        done.append(1)
        raise ValueError('annotation 7')

    def gather(outcomes, mine, group):
        outcomes[:] = [mine, *others]

    try:
        assert once_a_machine(cfg, lambda: {1: 2}) == {1: 2}
        with pytest.raises(ValueError, match='annotation 7'):
            once_a_machine(cfg, fail)
        monkeypatch.setattr(dist, 'all_gather_object', gather)
        # another process of this machine, and one of another machine
        monkeypatch.setenv('LOCAL_RANK', '1')
        others = [({1: 2}, None)]
        assert once_a_machine(cfg, fail) == {1: 2} and done == [1]
        monkeypatch.setenv('LOCAL_RANK', '0')
        with pytest.raises(RuntimeError, match='same data'):
            once_a_machine(cfg, dict)
    finally:
        dist.destroy_process_group()


def test_tool(root, capsys):
    def run(*more):
        pairs = [str(root / 'train.json'), str(root / 'train')]
        with pytest.raises(SystemExit) as end:
            tool.main([*pairs, *map(str, more)])
        return end.value.code, capsys.readouterr().out

    assert run() == (
        0,
        f'\n{root}/train.json: 3 of 3 objects in 2 images are used\n',
    )
    pair = (root / 'val.json', root / 'val')
    assert run(*pair)[0] == 0
    shutil.copy(root / 'train/train2.png', root / 'val/val1.png')
    code, output = run(*pair)
    assert code == 1 and 'one image in two sets' in output
    Image.new('RGB', SIZE).save(root / 'train' / 'more.jpg')

    def change(content):
        content['annotations'][0]['bbox'] = [50, 20, 40, 20]
        del content['annotations'][1]['area']

    spoil(root, 'train', change)
    code, output = run('--out', root / 'out')
    assert code == 1
    for text in ('more.jpg', 'repair   annotations without area', 'leave'):
        assert text in output
    (picture,) = (root / 'out').rglob('*.png')
    assert Image.open(picture).getpixel((160 + 500, 160 + 300)) == (
        220,
        30,
        30,
    )
    (mended,) = (root / 'out').glob('train.*.json')
    assert json.loads(mended.read_text())['annotations'][1]['area'] == 120
    (root / 'train.json').unlink()
    assert 'does not exist' in run()[0]
    assert run('--classes', 'cat')[0] != 0
