"""Runs of milliseconds, in epochs of four batches."""

import itertools

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

COUNTER = itertools.count()


class Toy(BaseModel):
    """Its loss depends on the images and on random numbers."""

    def __init__(self, width=2):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.linear = nn.Linear(1, width)
        self.seen = []

    def forward(self, *inputs, mode='loss'):
        inputs = torch.stack(inputs)
        self.seen.append(inputs.flatten().tolist())
        out = self.linear(self.norm(inputs))
        if mode == 'predict':
            return [dict(out=value) for value in out]
        return dict(loss=(out * torch.rand_like(out)).sum())


class Count(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [1] * len(data_samples)

    def compute_metrics(self, results):
        return dict(count=sum(results))


@pytest.fixture
def toy(tmp_path):
    """Build a Runner of three epochs; hooks first, settings after."""

    def make(*hooks, folder='run', model=None, iters=None, **changes):
        images = torch.arange(8.0).split(1)
        torch.manual_seed(0)  # a Runner seeds later than a model is built here
        loop = dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
        sampler = dict(type='DefaultSampler', shuffle=True)
        if iters:
            loop = dict(type='IterBasedTrainLoop', max_iters=iters)
            loop['val_interval'] = 4
            sampler = dict(type='InfiniteSampler', shuffle=True)
        loader = dict(batch_size=2, dataset=images, sampler=sampler)
        val = dict(sampler=dict(type='DefaultSampler', shuffle=False))
        saving = dict(type='mmfgl.AtomicCheckpointHook', by_epoch=not iters)
        saving['interval'] = 100 if iters else 1
        saving.update(changes.pop('checkpoint', {}))
        settings = dict(
            model=model or Toy(),
            work_dir=str(tmp_path / folder),
            train_dataloader=loader,
            train_cfg=loop,
            val_dataloader=dict(batch_size=2, dataset=images) | val,
            val_cfg=dict(type='ValLoop'),
            val_evaluator=[Count()],
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=[
                dict(type='CosineAnnealingLR', by_epoch=False, T_max=12),
                dict(type='MultiStepLR', milestones=[1], by_epoch=not iters),
            ],
            default_hooks=dict(checkpoint=saving),
            experiment_name=f'robust_{next(COUNTER)}',
            randomness=dict(seed=0),
            log_level='WARNING',
        )
        runner = Runner(**(settings | changes))
        for hook in hooks:
            runner.register_hook(hook)
        return runner

    return make
