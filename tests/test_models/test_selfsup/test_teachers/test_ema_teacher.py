import copy

import pytest
import torch
from torch import nn

from mmfgl.models.selfsup import EMATeacher


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.head = nn.ModuleDict(
            dict(projector=nn.Linear(4, 2), other=nn.Linear(4, 2))
        )

    def forward(self, x):
        return self.head.projector(self.backbone(x).mean(dim=(2, 3)))

    def learn(self, seed):
        """Move weights and BatchNorm statistics."""
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for param in self.parameters():
                param.add_(torch.randn(param.shape, generator=generator))
            self.train()
            self(torch.randn(2, 3, 5, 5, generator=generator) * seed)


def make():
    student = Student()
    teacher = EMATeacher(student, ['backbone', 'head.projector'])
    return student, teacher


def shared(student):
    """State of the student under the teacher's names."""
    return {
        key.removeprefix('head.'): value.clone()
        for key, value in student.state_dict().items()
        if 'other' not in key
    }


def state(teacher):
    values = {k: v.clone() for k, v in teacher.state_dict().items()}
    values.pop('started')
    return values


def assert_same(one, other, exact=True):
    assert one.keys() == other.keys()
    for key in one:
        if exact:
            assert torch.equal(one[key], other[key]), key
        else:
            torch.testing.assert_close(one[key], other[key])


def test_holds_the_named_modules_only():
    _, teacher = make()
    modules = {key.partition('.')[0] for key in state(teacher)}
    assert modules == {'backbone', 'projector'}


def test_first_batch_copies_the_student():
    student, teacher = make()
    student.learn(1)
    assert not teacher.started
    teacher.start(student)
    assert teacher.started
    assert_same(state(teacher), shared(student))


def test_loaded_teacher_does_not_start_again():
    student, teacher = make()
    teacher.start(student)
    student.learn(1)
    saved = teacher.state_dict()
    other_student, other = make()
    other_student.learn(2)
    other.load_state_dict(saved)
    other.start(other_student)
    assert_same(state(other), state(teacher))


def is_buffer(key):
    return 'running' in key or 'num_batches' in key


def test_weights_are_averaged_and_buffers_taken_over():
    student, teacher = make()
    student.learn(1)
    teacher.start(student)
    old = state(teacher)
    for seed, momentum in ((2, 0.9), (3, 0.5), (4, 0.99)):
        student.learn(seed)
        teacher.update(student, momentum)
        new = shared(student)
        expected = {
            key: new[key]
            if is_buffer(key)
            else momentum * old[key] + (1 - momentum) * new[key]
            for key in old
        }
        assert not any(torch.equal(new[key], old[key]) for key in old)
        old = state(teacher)
        assert_same(old, expected, exact=False)
    assert old['backbone.1.num_batches_tracked'] == 4


@pytest.mark.parametrize('momentum', [0, 1])
def test_extreme_momenta(momentum):
    student, teacher = make()
    teacher.start(student)
    before = state(teacher)
    student.learn(1)
    teacher.update(student, momentum)
    new = shared(student)
    expected = {
        key: before[key] if momentum and not is_buffer(key) else new[key]
        for key in new
    }
    assert_same(state(teacher), expected)


@pytest.mark.parametrize('momentum', [-0.1, 1.1])
def test_momentum_out_of_range(momentum):
    student, teacher = make()
    with pytest.raises(ValueError, match=r'must lie in \[0, 1\]'):
        teacher.update(student, momentum)


def test_no_gradient_and_always_in_evaluation_mode():
    student, teacher = make()
    teacher.train()
    assert not any(param.requires_grad for param in teacher.parameters())
    assert not any(module.training for module in teacher.modules())
    assert student.training


def test_update_leaves_the_student_alone():
    student, teacher = make()
    student.learn(1)
    before = copy.deepcopy(student.state_dict())
    teacher.update(student, 0.5)
    assert_same(student.state_dict(), before)
    # and does not tie the two together
    teacher.update(student, 0)
    teacher.backbone[0].weight.zero_()
    assert_same(student.state_dict(), before)
