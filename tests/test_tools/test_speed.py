"""speed.py at toy size: what it writes, and equal contestants."""

import json

import pytest
import torch
from lib import speed_models
from lib.timing import alternate

from mmfgl.testing.configs import narrow_model
from tools.benchmarks import speed

TOY = ['--size=64x96', '--batch=1', '--proposals=20', '--repeats=1']


@pytest.fixture
def small(monkeypatch):
    """ResNet-18 in place of ResNet-50."""
    config = speed_models._config

    def read(name):
        cfg = config(name).copy()
        cfg.model.backbone.depth = 18
        cfg.model.neck.in_channels = [64, 128, 256, 512]
        return cfg

    monkeypatch.setattr(speed_models, '_config', read)


def test_results(small, tmp_path, monkeypatch, capsys):
    peaks = iter((4.0, 2.0, 3.0, 1.0))
    monkeypatch.setattr(speed, 'memory_of', lambda command: next(peaks))
    only = '--only=infer,train,flops,memory'
    speed.main([*TOY, only, '--out', str(tmp_path)])
    results = json.loads((tmp_path / 'results.json').read_text())
    for name in ('infer_ratio', 'train_ratio', 'flops_ratio'):
        assert results[name] > 0
    assert results['memory_ratio'] == 2
    assert results['infer_memory_ratio'] == 3
    text = (tmp_path / 'results.md').read_text()
    assert '| memory, training | 2.000 | 4 MB | 2 MB |' in text
    assert text.strip() in capsys.readouterr().out


def test_detectors_share_weights_and_proposals(small):
    args = speed.parse_args(TOY)
    one, two = speed_models.detectors(args).values()
    for part in ('backbone', 'neck', 'rpn_head'):
        first, second = (getattr(m, part).state_dict() for m in (one, two))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    batch = speed_models.images(args, 1)
    boxes = []
    for model in (one.eval(), two.eval()):
        data = model.data_preprocessor(batch)
        feats = model.extract_feat(data['inputs'])
        found = model.rpn_head.predict(feats, data['data_samples'])
        boxes.append(found[0].bboxes)
    assert torch.equal(*boxes) and boxes[0].shape == (20, 4)
    assert (boxes[0] >= 0).all()
    assert (boxes[0] <= torch.tensor([96, 64, 96, 64])).all()


def test_cost_of_a_pretraining(monkeypatch):
    """The convolutions of twice as large views take four times as much."""
    config = speed_models._config

    def narrow(name):
        cfg = config(name).copy()
        narrow_model(cfg.model)
        return cfg

    monkeypatch.setattr(speed_models, '_config', narrow)
    costs = [
        speed_models.pretraining_cost('retod_r50-fpn', size)
        for size in (56, 112)
    ]
    teacher = [cost['teacher_flops'] for cost in costs]
    assert teacher[0] > 0 and 3.5 < teacher[1] / teacher[0] < 5
    assert costs[1]['student_flops'] > costs[0]['student_flops'] > 0
    assert costs[0]['params'] == costs[1]['params']
    assert costs[0]['rois'] == 256
    plain = speed_models.pretraining_cost('objectness_r50-fpn', 56)
    assert plain['teacher_flops'] == 0
    assert plain['student_flops'] < costs[0]['student_flops']


def test_order_alternates():
    calls = []
    steps = {name: lambda n=name: calls.append(n) for name in 'ab'}
    times = alternate(steps, 2, 'cpu')
    assert calls == ['a', 'b', 'a', 'b', 'b', 'a']
    assert times.keys() == {'a', 'b'}


@pytest.mark.parametrize(
    'option', ['--size=64', '--only=speed', '--repeats=0']
)
def test_wrong_arguments(option, capsys):
    with pytest.raises(SystemExit):
        speed.parse_args([option])
    assert option.split('=')[0] in capsys.readouterr().err
