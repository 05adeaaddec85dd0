from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from mmfgl.engine.hooks import CollapseError, CollapseMonitorHook
from mmfgl.engine.hooks.collapse_monitor_hook import symptoms

HEALTHY = dict(
    entropy=0.6, diversity=0.95, information=0.35, kl=0.2, rank=9.0,
    rank_share=0.9,
)  # fmt: skip
SAME = dict(teacher_diversity=0.1, teacher_entropy=0.02)
NAN = float('nan')


class Toy(BaseModel):
    """Logs what a ReToD logs, with values of our choice."""

    def __init__(self, odd, name='kl_distill', teacher=True):
        super().__init__()
        self.layer = nn.Linear(8, 1)
        if teacher:
            self.target_generator = nn.ModuleDict(
                dict(projector=nn.Linear(8, 4))
            )
        self.odd, self.name, self.calls = odd, name, 0

    def forward(self, inputs, mode='loss'):
        self.calls += 1
        odd = dict(self.odd.get(self.calls, {}))
        tokens = inputs[:, None] * odd.pop('tokens', 1)
        if hasattr(self, 'target_generator') and not odd.pop('skip', False):
            self.target_generator['projector'](tokens)
        stats = {'teacher_entropy': 0.6, 'teacher_diversity': 0.95}
        stats |= {self.name: 0.2} | odd
        stats = {key: torch.tensor(value) for key, value in stats.items()}
        return dict(loss_distill=self.layer(tokens).mean(), **stats)


@pytest.fixture
def run(toy_runner):
    """Train a toy; ``odd`` are the values of iterations that differ."""

    def run(odd=None, iters=20, model=None, action='warn', **changes):
        torch.manual_seed(0)
        settings = dict(window=1, warmup=0.2, patience=0.2, action=action)
        hook = dict(type='mmfgl.CollapseMonitorHook', **settings)
        data = [torch.randn(12, 8) for _ in range(iters)]
        runner = toy_runner(
            model or Toy(odd or {}), data, iters, hook, **changes
        )
        runner.train()
        return runner

    return run


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def state_of(runner):
    return runner.message_hub.runtime_info['mmfgl_collapse_monitor']


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({}, []),
        (dict(entropy=0.001), []),  # sharp and diverse
        (dict(entropy=0.995), ['uniform']),
        (dict(entropy=0.9, diversity=0.93, information=0.03), ['uniform']),
        (dict(diversity=0.2, information=0.1), ['same']),
        (dict(entropy=0.0, diversity=0.1), ['one_hot', 'same']),
        (dict(rank_share=0.2), ['rank']),
        (dict(rank=0.4), ['rank']),
        (dict(kl=0.0005), []),  # agreement alone is no collapse
        (dict(kl=0.0005, rank_share=0.5), ['copied']),
    ],
)
def test_symptoms(changes, expected):
    assert symptoms(HEALTHY | changes, width=16) == expected


@pytest.mark.parametrize('name', ['kl_distill', 'kl_mask'])
def test_healthy_run_is_quiet(run, name):
    runner = run(model=Toy({}, name), action='stop')
    for key, expected in (
        *(('entropy', 0.6), ('diversity', 0.95), ('information', 0.35)),
        ('kl', 0.2),
    ):
        log = runner.message_hub.get_scalar(f'train/collapse/{key}')
        np.testing.assert_allclose(log.data[0], [expected] * 20, rtol=1e-5)
    ranks = runner.message_hub.get_scalar('train/collapse/rank').data[0]
    assert all(5 < rank <= 8 for rank in ranks)  # of noise in 8 dimensions
    assert state_of(runner)['alarms'] == []


def test_real_pretraining_is_watched(retod_runner):
    hook = dict(type='mmfgl.CollapseMonitorHook', action='stop')
    runner = retod_runner(6, [hook])
    runner.train()
    for name in ('entropy', 'diversity', 'information', 'kl', 'rank'):
        log = runner.message_hub.get_scalar(f'train/collapse/{name}')
        assert len(log.data[0]) == 6 and np.isfinite(log.data[0]).all()


def test_stop_saves_a_checkpoint(run, tmp_path):
    odd = dict.fromkeys(range(3, 21), SAME)
    with pytest.raises(CollapseError, match='To try: ') as caught:
        run(odd, action='stop')
    path = tmp_path / 'work' / 'collapsed_iter_8.pth'
    assert str(path) in str(caught.value)
    saved = torch.load(path, map_location='cpu', weights_only=False)
    assert saved['meta']['iter'] == 8


def test_patience_and_warmup(run):
    # in the warm-up; too short; long enough; over; again
    sick = [1, 2, 5, 6, 8, 9, 10, 11, 14, 15, 16]
    runner = run(dict.fromkeys(sick, SAME), folder='a')
    assert 'collapse, seen in iteration' not in log_of(runner)
    runner = run(dict.fromkeys(range(6, 12), SAME), folder='b')
    text = log_of(runner)
    assert text.count('collapse, seen in iteration') == 1
    assert 'seen in iteration 10 of 20 (50%)' in text
    assert 'same: all regions get the same target (since iteration 6)' in text


def test_rank_of_the_tokens_is_watched(run):
    same = dict(tokens=torch.tensor([1.0, *[0.0] * 7]))  # one dimension left
    runner = run(dict.fromkeys(range(8, 21), same))
    assert state_of(runner)['alarms'] == ['rank']
    assert 'rank: region tokens fill few dimensions' in log_of(runner)


@pytest.mark.parametrize('odd', [dict(tokens=NAN), dict(kl_distill=NAN)])
def test_values_that_are_not_finite_are_left_out(run, odd):
    runner = run({6: odd})
    rank = runner.message_hub.get_scalar('train/collapse/rank')
    assert len(rank.data[0]) == 19 and np.isfinite(rank.data[0]).all()


def test_state_survives_resuming(run):
    first = run()
    path = f'{first.work_dir}/iter_10.pth'
    resumed = run(folder='b', load_from=path, resume=True)
    start = state_of(first)['start_rank']
    assert state_of(resumed)['start_rank'] == start is not None


def test_nothing_to_watch(run):
    runner = run(model=Toy({}, teacher=False))
    assert 'nothing to watch' in log_of(runner)


def test_blindness_is_an_error(run):
    with pytest.raises(RuntimeError, match='has not seen a region token'):
        run(dict.fromkeys(range(1, 31), dict(skip=True)), iters=30)


def test_bad_settings():
    with pytest.raises(ValueError, match="'warn' or 'stop'"):
        CollapseMonitorHook(action='ignore')
    with pytest.raises(ValueError, match='shares of the run'):
        CollapseMonitorHook(warmup=5)
