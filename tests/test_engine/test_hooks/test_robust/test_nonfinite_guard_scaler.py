"""The guard with a gradient scaler, which skips steps of its own."""

import itertools

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.structures import BaseDataElement

from mmfgl.engine.hooks import NonFiniteError
from tests.test_engine.test_hooks.test_robust.poisoned import (
    Poison,
    line_runner,
)


class Scaler:
    """What a gradient scaler does; PyTorch 2.1 has none for CPUs."""

    def __init__(self, init_scale):
        self.value, self.overflow = init_scale, False

    def scale(self, loss):
        return loss * self.value

    def step(self, optimizer):
        grads = [p.grad for g in optimizer.param_groups for p in g['params']]
        self.overflow = not all(grad.isfinite().all() for grad in grads)
        if not self.overflow:
            for grad in grads:
                grad /= self.value
            optimizer.step()

    def update(self):
        self.value /= 1 + self.overflow

    def get_scale(self):
        return self.value


class ScaledWrapper(OptimWrapper):
    """``AmpOptimWrapper`` without its demand for a GPU."""

    def __init__(self, init_scale, **kwargs):
        super().__init__(**kwargs)
        if hasattr(torch.amp, 'GradScaler'):
            scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)
        else:
            scaler = Scaler(init_scale)
        self.loss_scaler = scaler

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward()
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()


@pytest.fixture
def scaled(tmp_path, state_of):
    """Build a guarded Runner with a gradient scaler, and its poison."""

    def build(bad, iters, skips, init_scale=1024.0, where='gradient'):
        dataset = [dict(inputs=torch.randn(2)) for _ in range(4)]
        for index, item in enumerate(dataset):
            sample = BaseDataElement(metainfo=dict(img_path=f'{index}.jpg'))
            item['data_samples'] = sample
        runner = line_runner(
            tmp_path,
            dataset,
            iters,
            skips,
            wrapper=dict(type=ScaledWrapper, init_scale=init_scale),
            param_scheduler=dict(
                type='LinearLR', start_factor=0.1, by_epoch=False, end=10
            ),
        )
        poison = Poison(state_of, bad, where)
        runner._hooks.insert(0, poison)
        return runner, poison

    return build


def test_skips_of_a_scaler_are_counted(scaled, different):
    runner, poison = scaled({2}, iters=4, skips=2)
    runner.train()
    moved = [bool(different(*p)) for p in itertools.pairwise(poison.states)]
    assert moved == [True, True, False, True]
    assert poison.states[-1]['calls'] == 3  # that of the bad step is undone
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 1
    assert runner.optim_wrapper.loss_scaler.get_scale() == 512
    # the learning rate has waited too
    assert runner.param_schedulers[0].last_step == 3


def test_scaler_that_cannot_help_stops(scaled):
    runner, _ = scaled({1, 2, 3}, iters=6, skips=3)
    with pytest.raises(NonFiniteError, match='3 steps in a row') as caught:
        runner.train()
    message = str(caught.value)
    assert runner.iter == 3
    assert 'gradient of linear.weight, linear.bias' in message
    assert 'loss_line = ' in message and '3.jpg' in message


def test_scaler_may_search_before_the_first_step(scaled):
    where = dict(where='overflow')
    runner, _ = scaled(range(3), iters=4, skips=1, init_scale=8.0, **where)
    runner.train()  # at 8, 4 and 2 it overflows
    assert runner.optim_wrapper.loss_scaler.get_scale() == 1
    runner, _ = scaled(range(9), iters=9, skips=1, init_scale=8.0, **where)
    with pytest.raises(NonFiniteError, match='4 steps in a row'):
        runner.train()
    # NaN has nothing to do with the scale
    for where in ('loss', 'gradient'):
        runner, _ = scaled(range(9), iters=9, skips=2, where=where)
        with pytest.raises(NonFiniteError, match='2 steps in a row'):
            runner.train()
