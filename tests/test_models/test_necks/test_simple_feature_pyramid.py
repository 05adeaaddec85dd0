import pytest
import torch
from mmengine.registry import DefaultScope

from mmfgl.registry import MODELS

NECK = dict(type='mmfgl.SimpleFeaturePyramid', in_channels=32, out_channels=8)


def build(**options):
    torch.manual_seed(0)
    return MODELS.build({**NECK, **options})


@pytest.mark.parametrize('size', [(4, 6), (5, 3), (1, 1)], ids=str)
def test_sizes_of_the_levels(size):
    x = torch.randn(2, 32, *size)
    levels = build()((x,))
    height, width = size
    want = [
        (height * 4, width * 4),
        (height * 2, width * 2),
        (height, width),
        (-(-height // 2), -(-width // 2)),
        (-(-height // 4), -(-width // 4)),
    ]
    assert [tuple(level.shape) for level in levels] == [
        (2, 8, *sides) for sides in want
    ]


def test_levels_look_at_the_same_place():
    neck = build().double()
    x = torch.zeros(1, 32, 8, 8, dtype=torch.float64)
    moved = x.clone()
    moved[..., 5, 2] = torch.randn(32, dtype=torch.float64)
    for level, other in zip(neck(x), neck(moved), strict=True):
        changed = (level - other).abs().sum(dim=1)[0]
        scale = level.shape[-1] / 8
        row, column = divmod(int(changed.argmax()), level.shape[-1])
        # the 3x3 convolution reaches one cell further
        assert -1 <= row - int(5 * scale) <= max(scale, 1)
        assert -1 <= column - int(2 * scale) <= max(scale, 1)
        assert (changed > 0).sum() <= (max(scale, 1) + 2) ** 2


def test_channels_are_normalised():
    finest = build()(100 * torch.randn(1, 32, 4, 4))[0]
    torch.testing.assert_close(
        finest.mean(dim=1), torch.zeros(1, 16, 16), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        finest.std(dim=1, correction=0),
        torch.ones(1, 16, 16),
        atol=1e-3,
        rtol=0,
    )


def test_every_parameter_gets_a_gradient():
    neck = build()
    total = sum((level**3).sum() for level in neck(torch.randn(1, 32, 4, 4)))
    total.backward()
    for name, param in neck.named_parameters():
        assert param.grad is not None and param.grad.abs().sum() > 0, name


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_builds_in_either_scope(scope):
    with DefaultScope.overwrite_default_scope(scope):
        build().init_weights()


def test_number_of_levels():
    assert len(build(num_outs=4)(torch.randn(1, 32, 4, 4))) == 4
    with pytest.raises(ValueError, match='makes 4 levels'):
        build(num_outs=3)


def test_several_maps_are_refused():
    x = torch.randn(1, 32, 4, 4)
    with pytest.raises(ValueError, match='out_indices=-1'):
        build()((x, x))
