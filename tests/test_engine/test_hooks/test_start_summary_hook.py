import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmfgl.engine.hooks import BudgetHook, StrictLoadHook
from mmfgl.engine.hooks.start_summary_hook import (
    StartSummaryHook,
    schedule,
    weights,
)


def runner_of(*hooks, max_iters=1000, **cfg):
    said = []
    logger = SimpleNamespace(handlers=[], info=said.append)
    group = dict(lr=1e-4, initial_lr=1e-3)
    optimizer = SimpleNamespace(param_groups=[group, dict(lr=0.1)])
    return SimpleNamespace(
        model=nn.ModuleDict(
            dict(backbone=nn.Linear(2, 2), neck=nn.Linear(2, 2))
        ),
        cfg=Config(cfg),
        hooks=list(hooks),
        logger=logger,
        said=said,
        iter=0,
        epoch=2,
        max_iters=max_iters,
        max_epochs=12,
        val_loop=None,
        train_loop=SimpleNamespace(),
        optim_wrapper=optimizer,
    )


@pytest.mark.parametrize(
    ('hooks', 'iters', 'count'),
    [((), 1000, 1), ((), 40, 0), ((BudgetHook(60),), 1000, 0)],
)
def test_eta_is_told_once(hooks, iters, count):
    runner, hook = runner_of(*hooks, max_iters=iters), StartSummaryHook()
    for runner.iter in range(7, 30):
        hook.before_train_iter(runner)
        hook.after_train_iter(runner)
    assert len(runner.said) == count
    if count:
        pattern = (
            r'ETA: 0:00:\d\d for 982 iterations of [\d.e-]+ s, until \d\d '
        )
        assert re.match(pattern, runner.said[0])


def test_schedule():
    runner = runner_of()
    text = schedule(runner)
    assert text.startswith('1000 iterations, 12 epochs; SimpleNamespace, ')
    assert 'lr 0.001 to 0.1' in text and 'ETA' in text
    assert schedule(runner_of(BudgetHook(60))).startswith('60 s; ')


def test_weights(tmp_path):
    hook = StrictLoadHook()
    runner = runner_of(hook, load_from='a.pth')
    state = {'backbone.weight': torch.zeros(2, 2)}
    checkpoint = dict(state_dict=state | runner.model.neck.state_dict())
    runner.hooks += [SimpleNamespace(declares_load=True)]
    hook.after_load_checkpoint(runner, checkpoint)
    assert ' '.join(weights(runner).split()) == (
        'a.pth: backbone (1 of 2) no file: backbone (1 of 2), neck'
    )
    runner.cfg.resume = True
    assert weights(runner) == 'resumed from a.pth: epoch 2, iteration 0'
