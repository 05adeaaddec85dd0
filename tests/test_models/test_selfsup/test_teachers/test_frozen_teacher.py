import pytest
import torch

from mmfgl.models.selfsup import FrozenTeacher
from mmfgl.registry import MODELS
from mmfgl.testing.models import tiny_backbone_cfg

RGB = dict(mean=[100.0, 110, 120], std=[50.0, 60, 70], bgr_to_rgb=True)


@pytest.fixture
def weights(tmp_path):
    """Checkpoint of a tiny backbone."""
    torch.manual_seed(3)
    state = MODELS.build(tiny_backbone_cfg()).state_dict()
    path = tmp_path / 'teacher.pth'
    state = {f'backbone.{key}': value for key, value in state.items()}
    torch.save(dict(state_dict=state), path)
    return path


def teacher_of(weights):
    init_cfg = dict(type='Pretrained', checkpoint=str(weights))
    teacher = FrozenTeacher(tiny_backbone_cfg(), RGB, init_cfg)
    teacher.init_weights()
    return teacher


@pytest.fixture
def teacher(weights):
    return teacher_of(weights)


def test_sees_the_students_views_as_its_own(teacher):
    """Whatever the student's normalisation and channel order are."""
    image = torch.rand(2, 3, 64, 64) * 255  # BGR

    def normalised(mean, std, bgr_to_rgb):
        x = image.flip(1) if bgr_to_rgb else image
        shape = (1, 3, 1, 1)
        mean, std = torch.tensor(mean), torch.tensor(std)
        return (x - mean.view(shape)) / std.view(shape)

    maps = []
    for student in (
        RGB,
        dict(mean=[127.5] * 3, std=[1.0] * 3, bgr_to_rgb=True),
        dict(mean=[10.0, 20, 30], std=[3.0, 4, 5], bgr_to_rgb=False),
    ):
        teacher.match(student)
        # MMPretrain has another name for it
        student['to_rgb'] = student.pop('bgr_to_rgb')
        flips = teacher.flips
        teacher.match(student)
        assert teacher.flips == flips
        student['bgr_to_rgb'] = student.pop('to_rgb')
        maps.append(teacher(normalised(**student))[-1])
    torch.testing.assert_close(maps[1], maps[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps[2], maps[0], atol=1e-4, rtol=1e-4)
    # a student that takes values as they are
    plain = dict(bgr_to_rgb=True)
    for student in (plain, plain | dict(mean=None, std=None)):
        teacher.match(student)
        seen = teacher(image.flip(1))[-1]
        torch.testing.assert_close(seen, maps[0], atol=1e-4, rtol=1e-4)


def test_belongs_to_nobody(teacher):
    """Not saved, not trained, without gradient, always in evaluation mode."""
    assert not list(teacher.parameters()) and not teacher.state_dict()
    before = teacher(torch.ones(2, 3, 64, 64, requires_grad=True))
    teacher.train()
    after = teacher(torch.ones(2, 3, 64, 64, requires_grad=True))
    for first, second in zip(before, after, strict=True):
        assert not first.requires_grad
        torch.testing.assert_close(first, second)
    assert teacher.out_channels == (8, 16, 32, 64)


def test_moves_along(teacher):
    teacher.double()
    maps = teacher(torch.ones(1, 3, 64, 64, dtype=torch.float64))
    assert maps[0].dtype is torch.float64


@pytest.mark.parametrize('damage', ['missing', 'shape'])
def test_weights_that_do_not_fill_it(weights, damage):
    state = torch.load(weights)['state_dict']
    key = 'backbone.layer1.0.conv1.weight'
    if damage == 'missing':
        del state[key]
    else:
        state[key] = state[key][:1]
    torch.save(state, weights)
    with pytest.raises(ValueError, match='does not fill.*layer1.0.conv1'):
        teacher_of(weights)
