"""A sound set, and a config that reads it."""

import pytest
from mmengine.config import Config

from tests.coco_sets import CLASSES, write_coco_set


@pytest.fixture
def root(tmp_path):
    """A sound set that a test may spoil."""
    write_coco_set(tmp_path)
    return tmp_path


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
