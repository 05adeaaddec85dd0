import json
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

#: A class name that must be shown as it is.
HOSTILE = '<script>alert(1)</script><b>$x_1$</b> "\'&'
CLASSES = ['cat', HOSTILE, '猫']
BOX, OTHER, FAR = [5, 5, 20, 15], [35, 8, 20, 30], [60, 40, 10, 10]
VERSIONS = dict(Python='3.11', mmfgl='0.1')


def write_dataset(root, num_images=10):
    (root / 'val').mkdir(parents=True)
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for number in range(num_images):
        name = f'<i>{number}.png'
        picture = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / 'val' / name)
        images.append(dict(id=number, file_name=name, width=80, height=60))
        objects = [(BOX, number % 3), (OTHER, (number + 1) % 3)]
        for box, label in objects if number else ():  # the first has none
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=10 + label,
                    bbox=box,
                    area=box[2] * box[3],
                    iscrowd=0,
                )
            )
    categories = [dict(id=10 + i, name=c) for i, c in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations)
    path = root / 'val.json'
    path.write_text(json.dumps(content | dict(categories=categories)))


def config_of(root, **more):
    dataset = dict(
        type='CocoDataset',
        data_root=str(root),
        ann_file='val.json',
        data_prefix=dict(img='val/'),
        metainfo=dict(classes=CLASSES),
    )
    return Config(
        dict(
            model=dict(type='FasterRCNN', backbone=dict(type='ResNet')),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=20),
            train_dataloader=dict(batch_size=2, dataset=dataset),
            val_dataloader=dict(batch_size=1, dataset=dataset),
            test_dataloader=dict(batch_size=1, dataset=dataset),
            test_evaluator=dict(type='CocoMetric'),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        )
        | more
    )


def write_test(folder, root, checkpoint, shift=0, num_images=10, **more):
    """A test that finds each object, the second one under another class."""
    folder.mkdir(parents=True)
    config = config_of(root, load_from=str(checkpoint), **more)
    config.dump(str(folder / 'config.py'))
    rows = [
        dict(image_id=i, category_id=10 + (i + o) % 3, bbox=box, score=score)
        for i in range(num_images)
        for o, box, score in (
            (0, BOX, 0.9 - 0.01 * i),
            (0, OTHER, 0.7),
            (1 + shift, FAR, 0.1),
        )
    ]
    (folder / 'predictions.bbox.json').write_text(json.dumps(rows))
    metrics = {'coco/bbox_mAP': 0.4 + 0.1 * shift, 'coco/bbox_mAP_50': -1.0}
    metrics |= dict(seconds_per_image=0.05)
    (folder / 'metrics.json').write_text(json.dumps(metrics))
    record = dict(command=f'python tools/test.py {folder.name} <x>')
    record |= dict(versions=VERSIONS)
    (folder / 'run.json').write_text(json.dumps(record))


def write_training(folder, root, **more):
    logs = folder / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    records = [
        dict(step=step, loss=1 / step, time=3.0) for step in (5, 10, 15, 20)
    ]
    records += [{'step': s, 'coco/bbox_mAP': s / 100} for s in (10, 20)]
    text = '\n'.join(map(json.dumps, records))
    (logs / 'scalars.json').write_text(text)
    config_of(root, **more).dump(str(logs / 'config.py'))


@pytest.fixture(scope='session')
def write():
    """The functions that write what a report is made of."""
    return SimpleNamespace(
        dataset=write_dataset, test=write_test, training=write_training
    )


@pytest.fixture(scope='session')
def hostile():
    return HOSTILE


@pytest.fixture(scope='session')
def run_folder(tmp_path_factory):
    """A folder as `mmfgl run` leaves it."""
    root = tmp_path_factory.mktemp('data')
    write_dataset(root)
    folder = tmp_path_factory.mktemp('runs') / 'a<u>run'
    write_training(folder / 'pretrain', root, val_dataloader=None)
    for shift, arm in enumerate(('imagenet', 'retod')):
        write_training(folder / arm, root)
        checkpoint = folder / arm / 'iter_20.pth'
        write_test(folder / f'test-{arm}-plain', root, checkpoint, shift)
    tta = dict(model=dict(type='TTA', module=dict(type='FasterRCNN')))
    write_test(folder / 'test-retod-tta', root, checkpoint, 2, **tta)
    (folder / 'data').mkdir()
    results = dict(arms=dict(retod=dict(plain=dict(AP=1.0))), settings={})
    (folder / 'results.json').write_text(json.dumps(results))
    return folder


@pytest.fixture(scope='session')
def page(run_folder, tmp_path_factory):
    """Path of the report of the run folder."""
    from mmfgl.reports import report

    return report(run_folder, tmp_path_factory.mktemp('page'))
