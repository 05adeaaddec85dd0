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


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


def test_first_batch_copies_the_named_modules():
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
    other_student, other = make()
    other_student.learn(2)
    other.load_state_dict(teacher.state_dict())
    other.start(other_student)
    assert_same(state(other), state(teacher))


def test_averages_weights_and_takes_buffers_over():
    student, teacher = make()
    student.learn(1)
    teacher.start(student)
    params = dict(teacher.named_parameters())
    for seed, momentum in enumerate((0.9, 0.5, 0.99, 1, 0), start=2):
        old = state(teacher)
        student.learn(seed)
        before = copy.deepcopy(student.state_dict())
        teacher.update(student, momentum)
        assert_same(student.state_dict(), before)
        expected, new = shared(student), state(teacher)
        for key, value in old.items():
            assert not torch.equal(expected[key], value)
            if key in params:
                expected[key] = expected[key].lerp(value, momentum)
        torch.testing.assert_close(new, expected)
    assert new['backbone.1.num_batches_tracked'] == 6
    # a momentum of 0 copies, but does not tie the two together
    assert_same(new, shared(student))
    teacher.backbone[0].weight.zero_()
    assert_same(new, shared(student))


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


def test_follows_a_student_whose_modules_were_replaced():
    """Conversion to SyncBN, say, comes after the teacher was built."""
    student, teacher = make()
    teacher.start(student)
    teacher.update(student, 0.5)
    student.backbone[1] = copy.deepcopy(student.backbone[1])
    student.head.projector = copy.deepcopy(student.head.projector)
    student.learn(3)
    teacher.update(student, 0)
    assert_same(state(teacher), shared(student))
    student.double()
    student.float()
    student.learn(4)
    copied = copy.deepcopy(teacher)
    for each in (teacher, copied):
        each.update(student, 0)
        assert_same(state(each), shared(student))


def test_start_is_read_once(monkeypatch):
    student, teacher = make()
    teacher.start(student)
    monkeypatch.setattr(torch.Tensor, 'item', None)  # would wait for a GPU
    teacher.start(student)
