"""The audit of what a config reads."""

import json
import logging
import shutil
import socket
from pathlib import Path

import pytest
import torch.distributed as dist
from mmengine.config import Config

from mmfgl.utils import cpu_dist
from mmfgl.utils.audit import audit_config
from mmfgl.utils.audit.ranks import once_a_machine
from tests.coco_sets import (
    CLASSES,
    both,
    coco_content,
    each,
    set_entry,
    set_ids,
    write_coco,
)


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
        write_coco(root, split, each('annotations', area=None))
    with caplog.at_level(logging.INFO):
        audit_config(cfg)
    dataset = cfg.train_dataloader.dataset.dataset
    assert dataset.ann_file.startswith(str(root / 'work' / 'annotations'))
    val = cfg.val_dataloader.dataset.ann_file
    assert cfg.val_evaluator[0].ann_file == val != str(root / 'val.json')
    assert json.loads(Path(val).read_text()) == coco_content('val')


def test_config_names_all_files(root, cfg):
    for split in ('train', 'val'):
        write_coco(root, split, set_entry('images', 1, id=1))
    with pytest.raises(ValueError, match=r'(?s)train2.png.*val2.png'):
        audit_config(cfg)
    audit_config(cfg, loaders=[])


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda c: c['images'].pop(), "'val2.png', id 2"),
        (
            set_entry('images', 0, file_name='other.png'),
            "'other.png' and 'val1.png'",
        ),
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
    content = coco_content('val')
    change(content)
    other = root / 'other.json'
    other.write_text(json.dumps(content))
    cfg.val_evaluator.ann_file = str(other)
    shutil.copy(root / 'val' / 'val1.png', root / 'val' / 'other.png')
    with pytest.raises(ValueError, match='val_evaluator reads') as error:
        audit_config(cfg)
    assert text in str(error.value)
    other.write_text(json.dumps(coco_content('val')))
    audit_config(cfg)
    # a data set without boxes, or several data sets
    write_coco(root, 'val', lambda c: c.update(annotations=[]))
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

    write_coco(root, 'val', change)
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
