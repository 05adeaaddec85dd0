"""See also test_utils/test_weights/test_report.py."""

from types import SimpleNamespace

import pytest
from mmengine.model import BaseModule
from torch import nn

from mmfgl.engine.hooks import CheckpointChainHook, StrictLoadHook


class Toy(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, classes)


def load(keep='', hooks=(), resume=False):
    """Let a checkpoint of three classes pass the hook."""
    state = {k: v for k, v in Toy(3).state_dict().items() if keep in k}
    runner = SimpleNamespace(
        model=Toy(),
        hooks=hooks,
        logger=SimpleNamespace(info=print),
        cfg=dict(load_from='model.pth', resume=resume),
    )
    StrictLoadHook().after_load_checkpoint(runner, dict(state_dict=state))


def test_a_part_that_nobody_has_declared():
    with pytest.raises(RuntimeError) as error:
        load('backbone')
    text = str(error.value)
    assert 'only a part of the model:\n  head: missing: head.w' in text
    assert "add dict(type='mmfgl.CheckpointChainHook', modules=['back" in text
    # a BatchNorm has a weight and a bias, too, and is no source of a head
    assert 'revise_keys' not in text and 'look like' not in text
    with pytest.raises(RuntimeError, match='complete: no module'):
        load('running')


def test_another_number_of_anchors_is_no_number_of_classes():
    """Nor is one of attention heads."""
    for name in ('rpn_head', 'roi_head.transformer'):
        models = []
        for number in (3, 5):
            model = nn.Module()
            part = model
            for step in name.split('.'):
                part.add_module(step, nn.Module())
                part = getattr(part, step)
            part.layer = nn.Linear(4, number)
            models.append(model)
        runner = SimpleNamespace(
            model=models[0],
            hooks=(),
            logger=SimpleNamespace(info=print),
            cfg=dict(load_from='model.pth', resume=False),
        )
        checkpoint = dict(state_dict=models[1].state_dict())
        with pytest.raises(RuntimeError, match=f'mismatched: {name}'):
            StrictLoadHook().after_load_checkpoint(runner, checkpoint)


def test_a_test_reads_no_init_cfg():
    init_cfg = dict(type='Pretrained', checkpoint='nowhere.pth')
    model = BaseModule(init_cfg)
    for loop in (None, {}):  # not asked for, or not built
        runner = SimpleNamespace(model=model, _train_loop=loop)
        StrictLoadHook().before_run(runner)
    runner = SimpleNamespace(model=model, _train_loop=object())
    with pytest.raises(FileNotFoundError, match=r'nowhere\.pth'):
        StrictLoadHook().before_run(runner)


def test_what_passes():
    load()  # another number of classes
    load('backbone', [CheckpointChainHook(['backbone'])])
    load('backbone', resume=True)
