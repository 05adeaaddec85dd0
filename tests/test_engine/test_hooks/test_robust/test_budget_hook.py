import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from mmfgl.engine.hooks import BudgetHook
from mmfgl.engine.hooks.robust import budget_hook as module
from mmfgl.engine.hooks.robust.strict_resume_hook import StrictResumeHook


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.rates, self.ends = [], []

    def forward(self, inputs, mode='loss', **kwargs):
        hub = MessageHub.get_current_instance()
        self.ends.append(hub.get_info('max_iters'))
        return dict(loss=self.linear(torch.stack(inputs)).mean())

    def train_step(self, data, optim_wrapper):
        self.rates.append(optim_wrapper.param_groups[0]['lr'])
        return super().train_step(data, optim_wrapper)


class Clock:
    """A clock that moves by the given seconds whenever a batch is read."""

    def __init__(self, *seconds):
        self.now, self.seconds = 0.0, iter(seconds)

    def monotonic(self):
        return self.now

    def __deepcopy__(self, memo):
        return self  # MMEngine copies the settings of data loaders

    def __len__(self):
        return 100

    def __getitem__(self, index):
        self.now += next(self.seconds)
        return dict(inputs=torch.ones(1))


@pytest.fixture
def run(toy_runner, monkeypatch):
    def run(seconds, hook, max_iters=10**6, more=(), **changes):
        clock = Clock(*seconds)
        monkeypatch.setattr(module, 'time', clock)
        runner = toy_runner(Model(), clock, max_iters, hook, 2.0, **changes)
        for other in more:
            runner.register_hook(other)
        runner.train()
        return runner

    return run


def test_ends_with_the_budget_and_saves(run):
    hook = BudgetHook(seconds=10, warmup=0.0, views=2)
    runner = run([1.0] * 20, hook)
    assert runner.iter == 10
    assert Path(runner.work_dir, 'iter_10.pth').is_file()
    spent = json.loads(Path(runner.work_dir, 'budget.json').read_text())
    assert spent == dict(seconds=10.0, iters=10, images=20)
    # as on a cosine over 10 iterations, though nobody knew there are 10
    expected = [2 * hook.factor_at(i / 10) for i in range(10)]
    assert runner.model.rates == pytest.approx(expected)
    # others see the right end from the first measured iteration on
    assert set(runner.model.ends[1:]) == {10}


def test_follows_a_clock_of_varying_speed(run):
    hook = BudgetHook(seconds=10, warmup=0.2)
    runner = run([1, 1, 4, 1, 1, 2, 9, 9], hook)
    assert runner.iter == 6
    progress = [0, 0.1, 0.2, 0.6, 0.7, 0.8]
    expected = [2 * hook.factor_at(p) for p in progress]
    assert runner.model.rates == pytest.approx(expected)


def test_validation_does_not_count(run):
    hook, validated = BudgetHook(seconds=10, warmup=0.0), []

    class Validation(Hook):
        priority = 'LOW'

        def after_train_iter(self, runner, batch_idx, data_batch, outputs):
            if runner.iter == 4:
                runner.call_hook('before_val')
                module.time.now += 60
                runner.call_hook('after_val')
                validated.append(runner.iter)

    runner = run([1.0] * 20, hook, more=[Validation()])
    assert validated == [4] and runner.iter == 10
    expected = [2 * hook.factor_at(i / 10) for i in range(10)]
    assert runner.model.rates == pytest.approx(expected)


@pytest.mark.parametrize('last', [1.9, 2.1, 9.0])
def test_stops_at_the_iteration_nearest_to_the_budget(run, last):
    # 7.5 s after three: a fourth of 2.5 s would end right at 10 s
    steps = [2.5, 2.5, 2.5, last, 0.1]
    runner = run(steps, BudgetHook(seconds=10))
    assert runner.iter == 4


def test_iterations_in_place_of_seconds(run):
    hook = BudgetHook(min_lr_ratio=0.5)
    runner = run([1.0] * 9, hook, max_iters=5)
    assert runner.iter == 5
    assert runner.model.rates[0] < runner.model.rates[1]
    assert 1 < runner.model.rates[-1] < 1.5


def test_images_of_a_batch_sampler_count(run, tmp_path):
    runner = run([1.0] * 9, BudgetHook(), max_iters=2)
    batches = BatchSampler(range(12), batch_size=4, drop_last=True)
    runner.train_loop.dataloader = DataLoader(range(12), batch_sampler=batches)
    BudgetHook().after_train(runner)
    spent = json.loads(Path(runner.work_dir, 'budget.json').read_text())
    assert spent['images'] == 8


def test_schedule():
    hook = BudgetHook(seconds=1, warmup=0.1, min_lr_ratio=0.25)
    assert 0 < hook.factor_at(0) < 0.05
    assert hook.factor_at(0.05) == pytest.approx(0.5)
    assert hook.factor_at(0.1) == pytest.approx(1)
    assert hook.factor_at(1) == pytest.approx(0.25)


def test_gradients_may_be_accumulated(run, caplog):
    """Also beyond the number of iterations that the config names."""
    wrapper = dict(optimizer=dict(type='SGD', lr=2.0), accumulative_counts=4)
    hooks = [StrictResumeHook()]
    runner = run(
        [1.0] * 30,
        BudgetHook(seconds=20),
        max_iters=10,
        more=hooks,
        optim_wrapper=wrapper,
    )
    assert runner.iter == 20
    path = f'{runner.work_dir}/iter_20.pth'
    more = dict(optim_wrapper=wrapper, load_from=path, resume=True)
    again = run([1.0] * 30, BudgetHook(seconds=24), 10, hooks, **more)
    assert again.iter == 24 and 'nothing is left' not in caplog.text


def test_refuses_epochs(run):
    loop = dict(type='EpochBasedTrainLoop', max_epochs=2)
    with pytest.raises(ValueError, match='needs an IterBasedTrainLoop'):
        run([1.0] * 9, BudgetHook(seconds=1), train_cfg=loop)


def test_refuses_other_schedulers(run):
    scheduler = dict(type='ConstantLR', factor=0.1, by_epoch=False)
    with pytest.raises(ValueError, match=r'param_scheduler=\[\]'):
        run([1.0], BudgetHook(seconds=1), param_scheduler=scheduler)


@pytest.mark.parametrize(
    'wrong', [dict(seconds=0), dict(warmup=1), dict(min_lr_ratio=-1)]
)
def test_refuses_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BudgetHook(**wrong)
