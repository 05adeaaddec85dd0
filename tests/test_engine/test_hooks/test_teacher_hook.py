import copy
import itertools
import math

import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmfgl.engine.hooks import TeacherHook
from mmfgl.registry import MODELS
from mmfgl.testing import region_samples, tiny_retod_cfg

COUNTER = itertools.count()
BRANCHES = {
    'backbone.': 'target_generator.backbone.',
    'neck.': 'target_generator.neck.',
    'rpn_head.': 'target_generator.rpn_head.',
    'roi_head.': 'target_generator.roi_head.',
    'head.projector.': 'target_generator.projector.',
}


@pytest.fixture(autouse=True)
def own_scope():
    # the Runner leaves its default scope behind
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


class Snapshot(Hook):
    """Keeps the model's state as training starts."""

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())


def make_runner(work_dir, iters=2, seed=0, accumulate=1, **changes):
    torch.manual_seed(seed)
    # long enough for a run: MMEngine sleeps between two epochs
    samples = region_samples(4) * 3
    loader = DataLoader(samples, batch_size=2, collate_fn=default_collate)
    settings = dict(
        model=MODELS.build(tiny_retod_cfg(targets='centring')),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(
            type='IterBasedTrainLoop', max_iters=iters, val_interval=1000
        ),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
            accumulative_counts=accumulate,
        ),
        default_hooks=dict(
            checkpoint=dict(
                type='CheckpointHook', by_epoch=False, interval=iters
            )
        ),
        custom_hooks=[dict(type='mmfgl.TeacherHook', momentum=0.5)],
        default_scope='mmpretrain',
        log_level='WARNING',
        experiment_name=f'teacher_hook_{next(COUNTER)}',
    )
    settings.update(changes)
    return Runner(**settings)


def assert_same(state, other):
    assert state.keys() == other.keys()
    for key in state:
        assert torch.equal(state[key], other[key]), key


def swapped(state):
    """A state dict with student and teacher in each other's places."""
    names = {}
    for own, theirs in BRANCHES.items():
        for key in state:
            if key.startswith(theirs):
                names[key] = own + key[len(theirs) :]
    names.update({own: theirs for theirs, own in names.items()})
    assert len(names) > 200
    return {names.get(key, key): value for key, value in state.items()}


def test_momentum_rises_on_a_cosine():
    hook = TeacherHook(momentum=0.9, end_momentum=0.99)
    assert hook.momentum_at(0) == pytest.approx(0.9)
    assert hook.momentum_at(0.5) == pytest.approx(0.945)
    assert hook.momentum_at(1) == hook.momentum_at(1.5) == 0.99
    values = [hook.momentum_at(i / 10) for i in range(11)]
    assert values == sorted(values)
    expected = 0.99 - 0.09 * (1 + math.cos(math.pi * 0.2)) / 2
    assert values[2] == pytest.approx(expected)
    assert TeacherHook().momentum_at(1) == 1


def test_bad_settings():
    with pytest.raises(ValueError, match="'teacher' or 'student'"):
        TeacherHook(export='both')
    for momenta in ((0.9, 0.5), (-0.1, 1), (0.9, 1.1)):
        with pytest.raises(ValueError, match='momentum <= end_momentum'):
            TeacherHook(*momenta)


def test_needs_a_teacher(tmp_path):
    model = MODELS.build(tiny_retod_cfg('objectness'))
    runner = make_runner(tmp_path, model=model)
    with pytest.raises(ValueError, match='no EMA teacher to move'):
        runner.train()


@pytest.mark.parametrize(
    ('accumulate', 'steps'), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5])]
)
def test_once_an_optimizer_step(tmp_path, monkeypatch, accumulate, steps):
    runner = make_runner(tmp_path, iters=5, accumulate=accumulate)
    assert not runner.model.teacher_is_driven
    seen = []
    update = runner.model.update_teacher

    def spy(momentum):
        seen.append((runner.iter + 1, momentum))
        update(momentum)

    monkeypatch.setattr(runner.model, 'update_teacher', spy)
    runner.train()
    schedule = TeacherHook(momentum=0.5)
    assert seen == [
        (step, pytest.approx(schedule.momentum_at(step / 5))) for step in steps
    ]
    logged = runner.message_hub.get_scalar('train/teacher_momentum')
    assert logged.current() == 1


def test_teacher_is_the_running_average(tmp_path):
    runner = make_runner(
        tmp_path,
        iters=2,
        custom_hooks=[
            dict(type='mmfgl.TeacherHook', momentum=0.75, end_momentum=0.75)
        ],
    )
    states = []

    class Watch(Hook):
        priority = 'VERY_LOW'

        def after_train_iter(self, runner, *args, **kwargs):
            states.append(copy.deepcopy(runner.model.state_dict()))

    runner.register_hook(Watch())
    runner.train()
    for name, param in runner.model.named_parameters():
        own = next((b for b in BRANCHES if name.startswith(b)), None)
        if own is not None:
            teacher = BRANCHES[own] + name[len(own) :]
            expected = 0.75 * states[0][teacher] + 0.25 * param
            torch.testing.assert_close(states[1][teacher], expected)


@pytest.mark.parametrize('export', ['teacher', 'student'])
def test_checkpoint_and_resume(tmp_path, export):
    hooks = [dict(type='mmfgl.TeacherHook', momentum=0.5, export=export)]
    runner = make_runner(tmp_path, custom_hooks=hooks)
    runner.train()
    state = runner.model.state_dict()
    assert not torch.equal(
        state['backbone.conv1.weight'],
        state['target_generator.backbone.conv1.weight'],
    )
    assert state['head.targets.centre'].any()
    path = str(tmp_path / 'iter_2.pth')
    saved = torch.load(path, map_location='cpu', weights_only=False)
    expected = swapped(state) if export == 'teacher' else dict(state)
    assert_same(saved['state_dict'], expected)

    # resumed with the other setting: what was saved decides
    other = 'student' if export == 'teacher' else 'teacher'
    snapshot = Snapshot()
    resumed = make_runner(
        tmp_path,
        iters=3,
        seed=1,
        resume=True,
        load_from=path,
        custom_hooks=[
            dict(type='mmfgl.TeacherHook', momentum=0.5, export=other),
            snapshot,
        ],
    )
    resumed.train()
    assert_same(snapshot.state, state)
    assert resumed.iter == 3
    saved = torch.load(
        tmp_path / 'iter_3.pth', map_location='cpu', weights_only=False
    )
    state = resumed.model.state_dict()
    expected = swapped(state) if other == 'teacher' else dict(state)
    assert_same(saved['state_dict'], expected)


def test_checkpoint_of_another_project_is_left_alone():
    state = {'backbone.conv1.weight': torch.zeros(1)}
    for checkpoint in (
        dict(state_dict=state, meta=dict(epoch=3)),
        dict(state_dict=state),
        state,
    ):
        before = copy.deepcopy(checkpoint)
        TeacherHook().after_load_checkpoint(None, checkpoint)
        assert checkpoint.keys() == before.keys()
