"""A hook that spoils training, and the smallest model to train."""

import itertools

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

NAN = float('nan')
INF = float('inf')
COUNTER = itertools.count()


class Poison(Hook):
    """Spoils a loss, or the gradient, of chosen iterations."""

    def __init__(self, state_of, iters, where):
        self.state_of, self.iters, self.where = state_of, iters, where
        self.states = []

    def before_train(self, runner):
        def spoil(module, args, losses):
            if runner.iter in self.iters:
                name = next(n for n in losses if 'loss' in n)
                value = losses[name]
                first, *rest = value if isinstance(value, list) else [value]
                if self.where == 'loss':
                    first = first * NAN
                else:  # a finite loss whose gradient is not
                    by = INF if self.where == 'overflow' else NAN
                    first.register_hook(lambda grad: grad * by)
                losses[name] = [first * 1.0, *rest]
            return losses

        runner.model.register_forward_hook(spoil)

    def before_train_iter(self, runner, *args, **kwargs):
        self.states.append(self.state_of(runner))

    after_train = before_train_iter


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.register_buffer('calls', torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.calls += 1
        return dict(loss_line=self.linear(inputs).square().mean())


def line_runner(work_dir, dataset, iters, skips=5, model=None, **settings):
    """A Runner of a guarded :class:`Line`, an image a batch, in order.

    ``settings`` are further ones of the optimizer wrapper and the Runner.
    """
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
    wrapper.update(settings.pop('wrapper', {}))
    return Runner(
        model=model or Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=1,
            dataset=dataset,
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
        optim_wrapper=wrapper,
        custom_hooks=[dict(type='mmfgl.NonFiniteGuardHook', max_skips=skips)],
        default_hooks=dict(checkpoint=None),
        log_level='ERROR',
        experiment_name=f'line_{next(COUNTER)}',
        **settings,
    )
