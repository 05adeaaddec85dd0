import copy
import math

import pytest
import torch
from mmengine.hooks import Hook

from mmfgl.engine.hooks import TeacherHook
from mmfgl.testing import randomise_weights, tiny_retod_cfg

NAMES = ('backbone.', 'neck.', 'rpn_head.', 'roi_head.')
BRANCHES = {name: f'target_generator.{name}' for name in NAMES}
BRANCHES['head.projector.'] = 'target_generator.projector.'


class Watch(Hook):
    """Keeps the model's states as training starts, and after each step."""

    priority = 'VERY_LOW'

    def before_train(self, runner):
        self.states = [copy.deepcopy(runner.model.state_dict())]

    def after_train_iter(self, runner, *args, **kwargs):
        self.states.append(copy.deepcopy(runner.model.state_dict()))


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
    expected = 0.99 - 0.09 * (1 + math.cos(math.pi * 0.2)) / 2
    assert hook.momentum_at(0.2) == pytest.approx(expected)
    assert TeacherHook().momentum_at(1) == 1


def test_bad_settings():
    with pytest.raises(ValueError, match="'teacher' or 'student'"):
        TeacherHook(export='both')
    for momenta in ((0.9, 0.5), (-0.1, 1), (0.9, 1.1)):
        with pytest.raises(ValueError, match='momentum <= end_momentum'):
            TeacherHook(*momenta)


def test_needs_a_teacher(retod_runner):
    runner = retod_runner(1, model=tiny_retod_cfg('objectness'))
    with pytest.raises(ValueError, match='no EMA teacher to move'):
        runner.train()


@pytest.mark.parametrize(
    ('accumulate', 'steps'), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5])]
)
def test_once_an_optimizer_step(retod_runner, monkeypatch, accumulate, steps):
    sgd = dict(type='SGD', lr=0.01)
    wrapper = dict(optimizer=sgd, accumulative_counts=accumulate)
    runner = retod_runner(5, optim_wrapper=wrapper)
    assert not runner.model.teacher_is_driven
    seen = []
    update = runner.model.update_teacher

    def spy(momentum):
        seen.append((runner.iter + 1, momentum))
        update(momentum)

    monkeypatch.setattr(runner.model, 'update_teacher', spy)
    runner.train()
    schedule = TeacherHook(momentum=0.9)
    assert seen == [
        (step, pytest.approx(schedule.momentum_at(step / 5))) for step in steps
    ]
    logged = runner.message_hub.get_scalar('train/teacher_momentum')
    assert logged.current() == 1


def test_teacher_is_the_running_average(retod_runner):
    watch = Watch()
    teacher = dict(momentum=0.75, end_momentum=0.75)
    runner = retod_runner(2, [watch], teacher=teacher)
    runner.train()
    _, first, second = watch.states
    for name, param in runner.model.named_parameters():
        own = next((b for b in BRANCHES if name.startswith(b)), None)
        if own is not None:
            teacher = BRANCHES[own] + name[len(own) :]
            expected = 0.75 * first[teacher] + 0.25 * param
            torch.testing.assert_close(second[teacher], expected)


@pytest.mark.parametrize('export', ['teacher', 'student'])
def test_checkpoint_and_resume(retod_runner, export):
    def run(iters, export, **changes):
        watch = Watch()
        runner = retod_runner(
            *(iters, [watch], dict(interval=iters)),
            model=tiny_retod_cfg(targets='centring'),
            teacher=dict(momentum=0.5, export=export),
            **changes,
        )
        runner.train()
        path = f'{runner.work_dir}/iter_{iters}.pth'
        state = runner.model.state_dict()
        saved = torch.load(path, weights_only=False)['state_dict']
        assert_same(saved, swapped(state) if export == 'teacher' else state)
        return watch.states[0], state, path

    _, state, path = run(2, export)
    assert not torch.equal(
        state['backbone.conv1.weight'],
        state['target_generator.backbone.conv1.weight'],
    )
    assert state['head.targets.centre'].any()
    # resumed with the other setting: what was saved decides
    other = 'student' if export == 'teacher' else 'teacher'
    start, _, _ = run(3, other, load_from=path, resume=True)
    assert_same(start, state)


def test_starts_from_a_loaded_backbone(retod_runner, tmp_path):
    """So does the teacher: one that never moves is exported as loaded."""
    model = randomise_weights(retod_runner(1).model.backbone, std=0.05)
    state = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / 'backbone.pth')
    runner = retod_runner(
        *(1, [], dict(interval=1)),
        teacher=dict(momentum=1.0),
        load_from=str(tmp_path / 'backbone.pth'),
        work_dir='loaded',
    )
    runner.train()
    path = f'{runner.work_dir}/iter_1.pth'
    saved = torch.load(path, weights_only=False)['state_dict']
    moved = []
    # BatchNorm statistics go on with the student
    for name, param in runner.model.named_parameters():
        if name in state:
            teacher = runner.model.get_parameter(f'target_generator.{name}')
            assert torch.equal(teacher, state[name]), name
            assert torch.equal(saved[name], state[name]), name
            moved.append(not torch.equal(param, state[name]))
    assert any(moved)


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
