import math

import pytest
import torch

from mmfgl.registry import MODELS
from mmfgl.testing import assert_trained

NECK = dict(type='mmfgl.SimpleFeaturePyramid', in_channels=32, out_channels=8)


def build(**options):
    torch.manual_seed(0)
    return MODELS.build({**NECK, **options})


@pytest.mark.parametrize('size', [(4, 6), (5, 3), (1, 1)], ids=str)
@pytest.mark.parametrize('num_outs', [4, 5])
def test_sizes_of_the_levels(size, num_outs):
    levels = build(num_outs=num_outs)((torch.randn(2, 32, *size),))
    sides = [
        [math.ceil(side * scale) for side in size]
        for scale in (4, 2, 1, 1 / 2, 1 / 4)
    ]
    assert [list(x.shape) for x in levels] == [
        [2, 8, *side] for side in sides[:num_outs]
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
    assert finest.mean(dim=1).abs().max() < 1e-4
    assert (finest.std(dim=1, correction=0) - 1).abs().max() < 1e-3


def test_every_parameter_gets_a_gradient():
    neck = build()
    levels = neck(torch.randn(1, 32, 4, 4))
    assert_trained(neck, sum((level**3).sum() for level in levels))
    assert all(param.grad.any() for param in neck.parameters())


def test_wrong_numbers_of_maps():
    with pytest.raises(ValueError, match='makes 4 levels'):
        build(num_outs=3)
    with pytest.raises(ValueError, match='out_indices=-1'):
        build()([torch.randn(1, 32, 4, 4)] * 2)
