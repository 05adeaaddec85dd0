from pathlib import Path

import numpy as np
import pytest
import torch

from mmfgl.engine.hooks import CollapseError, CollapseMonitorHook
from mmfgl.testing import tiny_retod_cfg

HEALTHY = dict(
    entropy=0.6, diversity=0.95, information=0.35, kl=0.2, rank=9.0,
    rank_share=0.9,
)  # fmt: skip


def monitor(**changes):
    return dict(type='mmfgl.CollapseMonitorHook', interval=1, **changes)


def centring(**changes):
    head = dict(
        targets=dict(type='mmfgl.RegionTargets', mode='centring', **changes)
    )
    return tiny_retod_cfg(head=head)


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


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
    hook = CollapseMonitorHook()
    assert hook.symptoms(HEALTHY | changes, width=16) == expected


def test_healthy_run_is_quiet(retod_runner):
    runner = retod_runner(40, [monitor(action='stop')])
    runner.train()
    hub = runner.message_hub
    for name in ('entropy', 'diversity', 'information', 'kl', 'rank'):
        values = hub.get_scalar(f'train/collapse/{name}').data[0]
        assert len(values) == 40 and np.isfinite(values).all()
    assert hub.runtime_info['mmfgl_collapse_monitor']['alarms'] == []


@pytest.mark.parametrize('kind', ['no centring', 'huge learning rate'])
def test_collapse_is_caught_in_a_fifth_of_the_run(retod_runner, kind):
    iters = 200
    if kind == 'no centring':
        kwargs = dict(
            model=centring(centre_momentum=1.0, temperature=0.02),
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=3e-2),
            ),
        )
    else:
        kwargs = dict(
            model=centring(),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.3)),
        )
    runner = retod_runner(iters, [monitor(action='stop')], **kwargs)
    with pytest.raises(CollapseError, match='To try: ') as caught:
        runner.train()
    assert runner.iter < iters / 5
    name = f'collapsed_iter_{runner.iter + 1}.pth'
    assert name in str(caught.value)
    saved = torch.load(
        Path(runner.work_dir) / name, map_location='cpu', weights_only=False
    )
    assert saved['meta']['iter'] == runner.iter + 1


class Stage(CollapseMonitorHook):
    """The monitor on statistics of our choice."""

    values: dict = {}

    def _statistics(self):
        return HEALTHY | self.values.get(self.now, {})

    def before_train_iter(self, runner, *args, **kwargs):
        super().before_train_iter(runner, *args, **kwargs)
        self.now = runner.iter + 1


def test_patience_and_warmup(retod_runner):
    bad = dict(diversity=0.1)
    hook = Stage(interval=1, window=1, warmup=0.2, patience=0.2)
    # in the warm-up; too short; long enough; over; again
    sick = [1, 2, 5, 6, 8, 9, 10, 11, 14, 15, 16]
    hook.values = dict.fromkeys(sick, bad)
    runner = retod_runner(20)
    runner.register_hook(hook)
    runner.train()
    text = log_of(runner)
    assert text.count('collapse, seen in iteration') == 0
    hook.values = dict.fromkeys(range(6, 12), bad)
    hook.__init__(interval=1, window=1, warmup=0.2, patience=0.2)
    runner = retod_runner(20, work_dir='b')
    runner.register_hook(hook)
    runner.train()
    text = log_of(runner)
    assert text.count('collapse, seen in iteration') == 1
    assert 'seen in iteration 10 of 20 (50%)' in text
    assert 'same: all regions get the same target (since iteration 6)' in text


def test_state_survives_resuming(retod_runner):
    hook = monitor(window=1, warmup=0.1)
    first = retod_runner(10, [hook], dict(interval=5))
    first.train()
    start = first.message_hub.runtime_info['mmfgl_collapse_monitor']
    resumed = retod_runner(
        10,
        [hook],
        work_dir='b',
        load_from=first.work_dir + '/iter_5.pth',
        resume=True,
    )
    resumed.train()
    state = resumed.message_hub.runtime_info['mmfgl_collapse_monitor']
    assert state['start_rank'] == start['start_rank'] is not None


def test_asymmetric_masked_and_centred(retod_runner):
    """Without cross-view loss it watches the masked tokens."""
    targets = dict(type='mmfgl.RegionTargets', mode='centring')
    model = tiny_retod_cfg(
        head=dict(targets=targets, loss_distill=None), symmetric=False
    )
    runner = retod_runner(3, [monitor()], model=model)
    runner.train()
    centre = runner.message_hub.get_scalar('train/collapse/centre').current()
    expected = runner.model.head.targets.centre.norm()
    assert centre == pytest.approx(float(expected))


def test_nothing_to_watch(retod_runner):
    model = tiny_retod_cfg(head=dict(loss_distill=None, loss_mask=None))
    runner = retod_runner(2, [monitor()], model=model)
    runner.train()
    assert 'nothing to watch' in log_of(runner)


def test_blindness_is_an_error(retod_runner, monkeypatch):
    from mmfgl.engine.hooks import collapse_monitor_hook as module

    monkeypatch.setattr(module, '_BLIND_LOOKS', 2)
    monkeypatch.setattr(CollapseMonitorHook, '_see', lambda *args: None)
    runner = retod_runner(3, [monitor()])
    with pytest.raises(RuntimeError, match='has not seen a region token'):
        runner.train()


def test_bad_settings():
    with pytest.raises(ValueError, match="'warn' or 'stop'"):
        CollapseMonitorHook(action='ignore')
    with pytest.raises(ValueError, match='shares of the run'):
        CollapseMonitorHook(warmup=5)
