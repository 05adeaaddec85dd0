"""Configs as users write them: what tools/train.py says before it builds."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from mmfgl.engine import guarded_run
from mmfgl.testing import tiny_coco

TRAIN = str(Path(__file__).parents[2] / 'tools/train.py')
NAME = 'efficientnet-lite0{}_fpn_1xb8-400_aquarium.py'
BASE = f'mmfgl::fgl_faster_rcnn/fgl-faster-rcnn_{NAME.format("")}'
OWN = """
root, classes = 'photos/', list('0123456789')
data = dict(dataset=dict(data_root=root, metainfo=dict(classes=classes)))
train_dataloader = val_dataloader = data
val_evaluator = dict(ann_file='photos/annotations/val.json')
model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
load_from = 'weights/whole.pth'
"""
WRAPPED = """
one = dict(
    type='CocoDataset',
    data_root=root,
    metainfo=dict(classes=classes),
    ann_file='annotations/train.json',
    data_prefix=dict(img='train/'),
    pipeline={{{{_base_.train_pipeline}}}},
)
train_dataloader = dict(dataset=dict(_delete_=True, {}))
"""
EPOCHS = 'train_cfg = dict(_delete_=True, type={}, max_epochs=1)\n'
METRIC = "val_evaluator = dict(_delete_=True, type='CocoMetric', {})\n"


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder of a user: photographs, weights and runs."""
    folder = tmp_path_factory.mktemp('own')
    tiny_coco(folder / 'photos')
    for name in ('weights/whole.pth', 'runs/mine/iter_7.pth'):
        (folder / name).parent.mkdir(parents=True)
        torch.save(dict(state_dict={}), folder / name)
    (folder / 'empty').mkdir()
    return folder


@pytest.fixture
def check(folder, monkeypatch):
    """Gives the config that a run would be built from, or the line said."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv('HOME', str(folder))
    monkeypatch.delenv('MMFGL_DATA_ROOT', raising=False)
    built = []

    def build(cfg, *hooks):
        built.append(cfg)
        raise SystemExit

    monkeypatch.setattr(guarded_run, 'build_runner', build)

    def check(text, *args):
        Path('mine.py').write_text(f"_base_ = '{BASE}'\n{text}")
        monkeypatch.setattr(sys, 'argv', ['train.py', 'mine.py', *args])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(TRAIN, run_name='__main__')
        if built:
            return built[0]
        line = str(end.value)
        assert line.startswith('error: ') and '\n' not in line
        return line

    return check


@pytest.mark.parametrize(
    ('more', 'args'),
    [
        ('', ''),  # of the base, data_root and test_dataloader are not there
        ("load_from = 'runs/mine'\n", ''),
        ("load_from = 'runs/mine/iter_400.pth'\n", ''),
        ("load_from = '~/weights/whole.pth'\n", ''),
        ("load_from = 'https://example.org/model.pth'\n", ''),
        ('custom_hooks = []\n', ''),
        ('val_dataloader = val_cfg = val_evaluator = None\n', ''),
        (WRAPPED.format("type='RepeatDataset', times=2, dataset=one"), ''),
        (WRAPPED.format("type='ConcatDataset', datasets=[one, one]"), ''),
        (
            WRAPPED.format(
                "type='ClassBalancedDataset', oversample_thr=1, dataset=dict("
                "type='MultiImageMixDataset', dataset=one, pipeline=[])"
            ),
            '',
        ),
        ('', '--amp'),
        ('', '--cfg-options load_from= custom_hooks=[]'),
    ],
)
def test_right_configs(check, more, args):
    cfg = check(OWN + more, *args.split())
    assert not isinstance(cfg, str), cfg
    if 'runs/mine' in more:
        assert cfg.load_from == 'runs/mine/iter_7.pth'
    if '--cfg-options' in args:
        assert cfg.load_from is None


@pytest.mark.parametrize(
    ('more', 'line'),
    [
        ("load_from = 'weights/best.pth'\n", 'not exist: weights/best.pth'),
        ("load_from = 'empty'\n", 'Run it first, with --work-dir empty, or'),
        (
            "load_from = 'x/objectness_r50-fpn_8xb64-100e_coco/iter_9.pth'\n",
            'tools/train.py .*objectness_r50-fpn_8xb64-100e_coco.py, or give',
        ),
        (
            'val_dataloader = None\n',
            'val_evaluator, but not val_dataloader: ',
        ),
        ('optim_wrapper = None\n', 'but not optim_wrapper: give all three'),
        ('model = None\n', 'mine.py has no model'),
        (EPOCHS.format("'EpochBasedTrainLoop'"), 'InfiniteSampler .* never'),
        (METRIC.format(''), 'val_evaluator has no ann_file: .*/val.json'),
        (
            METRIC.format("ann_file='annotations/val.json'"),
            'file of val_evaluator does not exist: annotations/val.json',
        ),
        (
            METRIC.format("ann_file='photos/annotations/train.json'"),
            'val_evaluator reads .*train.json, val_dataloader reads .*differ',
        ),
        (
            WRAPPED.format("**dict(one, ann_file=['a', 'b'])"),
            r"ann_file of a data set of train_dataloader is \['a', 'b'\]",
        ),
        (
            "model['roi_head']['mask_head'] = dict(num_classes=80)\n",
            'num_classes=80, .* has 10 classes',
        ),
        (
            "train_dataloader = dict(dataset=dict(ann_file='none.json'))\n",
            'data_root of this config does not exist: data/aquarium/;',
        ),
    ],
)
def test_wrong_configs(check, more, line):
    assert re.search(line, said := check(OWN + more)), said


@pytest.mark.parametrize(
    ('pattern', 'new', 'line'),
    [
        ('num_classes=10', 'num_convs=0', 'num_classes=7, .* has 10 classes'),
        ('metainfo=dict(classes=classes)', '', 'has 7 classes'),
        ("list('0123456789')", "'digit'", r"comma, classes=\('digit',\)"),
        ("list('0123456789')", "['0', '1']", "2 classes: '0', '1'"),
        ("'photos/'", "'none/'", 'train_dataloader does not exist: none/'),
        ('val_evaluator', 'test_evaluator', 'of val_evaluator does not'),
    ],
)
def test_forgotten_or_wrong(check, pattern, new, line):
    assert pattern in OWN
    assert re.search(line, said := check(OWN.replace(pattern, new))), said


def test_options_without_effect(check, capsys):
    line = check(OWN, '--cfg-options', 'data_root=/elsewhere/')
    assert 'data_root=/elsewhere/ has no effect' in line
    assert 'train_dataloader.dataset.data_root' in line
    with pytest.raises(AssertionError):  # argparse says it, and a usage
        check(OWN, '--cfg-options', 'load_from=', 'x.pth')
    assert 'KEY=VALUE without spaces, and other' in capsys.readouterr().err
