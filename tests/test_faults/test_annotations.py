"""Faults of annotation files, in tiny runs of the tools on a CPU.

What exporters leave out or write in their own way is filled in, and the run
tests as the sound set does; what would train on wrong boxes stops at once.
"""

import json
import re

import pytest
from PIL import Image

from tools.benchmarks.faults_runs import CLASSES, detection

pytestmark = pytest.mark.faults


def with_val(cfg):
    """A detection run that ends with a validation."""
    cfg.val_dataloader = cfg.test_dataloader
    cfg.val_evaluator = cfg.test_evaluator
    cfg.val_cfg = dict(type='ValLoop')
    cfg.train_cfg.val_interval = cfg.train_cfg.max_iters
    return cfg


def spoil(data, change, splits=('train', 'val')):
    """Change the annotation files of a set."""
    for split in splits:
        path = data / f'annotations/{split}.json'
        content = json.loads(path.read_text())
        path.write_text(json.dumps(change(content) or content))


def of_each(key, change):
    """A change of every entry of one list."""

    def change_all(content):
        for entry in content[key]:
            change(entry)

    return change_all


def annotations(change):
    """A change of every annotation."""
    return of_each('annotations', change)


def add_grouping_category(content):
    content['categories'].insert(0, dict(id=77, name='3'))


def byte_order_mark(data):
    for split in ('train', 'val'):
        path = data / f'annotations/{split}.json'
        path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())


MENDED = {
    'no_area': annotations(lambda a: a.pop('area')),
    'no_iscrowd': annotations(lambda a: a.pop('iscrowd')),
    'no_id': annotations(lambda a: a.pop('id')),
    'text_ids': annotations(lambda a: a.update(id=f'ann-{a["id"]}')),
    'zero_id': annotations(lambda a: a.update(id=a['id'] - 1)),
    'same_ids': annotations(lambda a: a.update(id=5)),
    'text_category': annotations(
        lambda a: a.update(category_id=str(a['category_id']))
    ),
    'text_image': annotations(lambda a: a.update(image_id=str(a['image_id']))),
    'text_box': annotations(
        lambda a: a.update(bbox=list(map(str, a['bbox'])))
    ),
    'text_crowd': annotations(lambda a: a.update(iscrowd='0')),
    'no_size': of_each('images', lambda i: (i.pop('width'), i.pop('height'))),
    'zero_size': of_each('images', lambda i: i.update(width=0, height=0)),
    'text_image_ids': of_each('images', lambda i: i.update(id=str(i['id']))),
    'number_names': of_each(
        'categories', lambda c: c.update(name=int(c['name']))
    ),
    'same_category_name': add_grouping_category,
    'bom': None,
}
WORDS = dict(
    no_area='annotations without area',
    no_iscrowd='annotations without iscrowd',
    no_id='annotations without id',
    text_ids='annotations with an unusable id',
    zero_id='annotations with 0 as id',
    same_ids="annotations with another one's id",
    text_category='annotations whose category_id is a number in text',
    text_image='annotations whose image_id is a number in text',
    text_box='boxes with numbers in text',
    text_crowd='annotations whose iscrowd is a number in text',
    no_size='images without width and height',
    zero_size='images without width and height',
    text_image_ids='images whose id is a number in text',
    number_names='categories whose name is a number',
    same_category_name='category names there twice',
    bom='byte order mark',
)


@pytest.mark.parametrize('case', MENDED)
def test_mended(bench, data, case):
    """Key or type that exporters change: filled in, said, right AP."""
    cfg = with_val(detection(data, iters=2))
    cfg.val_evaluator.metric = ['bbox']
    sound = bench.run(cfg, 'sound')
    if case == 'bom':
        byte_order_mark(data)
    else:
        spoil(data, MENDED[case])
    result = bench.run(cfg, 'run')
    bench.ends(result, WORDS[case])
    found = [re.findall(r'bbox_mAP: (\S+)', out) for _, out in (sound, result)]
    assert found[0] == found[1] != []
    losses = [re.findall(r' loss: (\S+)', out) for _, out in (sound, result)]
    assert losses[0] == losses[1] != []


def corners(a):
    x, y, width, height = a['bbox']
    a['bbox'] = [x, y, x + width, y + height]


def share_an_id(content):
    content['images'][1]['id'] = content['images'][0]['id']


def normalise(a):
    a['bbox'] = [v / s for v, s in zip(a['bbox'], [128, 96] * 2, strict=True)]


STOPPED = dict(
    zero_area=(
        annotations(lambda a: a.update(area=0)),
        ('objects can be used', 'with an area of 0'),
    ),
    normalised=(annotations(normalise), ('between 0 and 1', 'pixels')),
    all_crowd=(
        annotations(lambda a: a.update(iscrowd=1)),
        ('objects can be used', 'crowd regions'),
    ),
    no_objects=(lambda c: c.update(annotations=[]), ('has no object',)),
    same_image_id=(share_an_id, ('share an id', 'id ', ' and ')),
    nan_box=(
        annotations(lambda a: a['bbox'].__setitem__(0, float('nan'))),
        ('not four finite numbers', 'annotation 1 of'),
    ),
    three_numbers=(
        annotations(lambda a: a['bbox'].pop()),
        ('not four finite numbers', 'annotation 1 of'),
    ),
    blank_names=(
        of_each('categories', lambda c: c.update(name=f'{c["name"]} ')),
        ("missing: '0'", "the file has: '0 '"),
    ),
    url_names=(
        of_each('images', lambda i: i.update(file_name='https://x.y/z.jpg')),
        ('named by URL', 'https://x.y/z.jpg'),
    ),
    a_list=(lambda c: c['annotations'], ('holds a list',)),
)


@pytest.mark.parametrize('case', STOPPED)
def test_stopped(bench, data, case):
    """Annotations that would train wrong: an error names file and reason."""
    change, words = STOPPED[case]
    spoil(data, change)
    result = bench.run(with_val(detection(data)), 'run')
    bench.stops(result, 'annotations/train.json', *words)


def test_corners(bench, data):
    """Boxes as corners: a warning with their number."""
    spoil(data, annotations(corners))
    result = bench.run(detection(data, iters=1), 'run')
    pattern = (
        r'boxes that leave their image by more than 2 px: \d+; as corners'
    )
    bench.ends(result, pattern)


def test_resized_images(bench, data):
    """Images smaller than the JSON says: an error names one."""
    for path in (data / 'train').iterdir():
        Image.open(path).resize((64, 48)).save(path)
    result = bench.run(detection(data), 'run')
    bench.stops(result, 'is 64 x 48, the labels say 128 x 96')


def test_other_evaluator(bench, data):
    """The evaluator reads another file: an error before training."""
    cfg = with_val(detection(data))
    content = json.loads((data / 'annotations/val.json').read_text())
    for ann in content['annotations']:
        ann['bbox'][0] += 9
    other = data / 'annotations/other.json'
    other.write_text(json.dumps(content))
    cfg.val_evaluator.ann_file = str(other)
    result = bench.run(cfg, 'run')
    bench.stops(result, 'other.json', 'differ', 'has other boxes')


def test_no_masks(bench, data):
    """Masks asked for, none there: an error names annotation and config."""
    spoil(data, annotations(lambda a: a.pop('segmentation', None)))
    cfg = detection(data)
    cfg.train_dataloader.dataset.pipeline[1].with_mask = True
    words = ('without segmentation', 'annotation 1 of', 'fgl-faster-rcnn_r50')
    bench.stops(bench.run(cfg, 'run'), *words)


def test_image_in_train_and_val(bench, data):
    """A train image is in val, too: a warning names both files."""
    train, val = (sorted((data / s).iterdir())[0] for s in ('train', 'val'))
    val.write_bytes(train.read_bytes())
    result = bench.run(with_val(detection(data, iters=1)), 'run')
    bench.ends(result, rf'evaluated on too: 1; .*{re.escape(val.name)}')


def test_two_classes_of_ten(bench, data):
    """Classes left out on purpose: their number is told, training runs."""
    cfg = detection(data, iters=1, classes=CLASSES[:2], num_classes=2)
    bench.ends(bench.run(cfg, 'run'), r'left out: \d+ of classes that')
