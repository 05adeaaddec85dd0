import math

import pytest
import torch

from mmfgl.models.losses import RegionDiversityLoss


def logits_of(rows, seed=0, scale=0.5):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 8, generator=generator) * scale


def test_value():
    logits = logits_of(16)
    mean = (logits / 0.1).softmax(dim=1).mean(dim=0)
    entropy = -(mean * mean.log()).sum() / math.log(8)
    loss = RegionDiversityLoss(floor=1.0, loss_weight=2.0)
    assert loss(logits).item() == pytest.approx(2 * (1 - entropy.item()))
    torch.testing.assert_close(loss(logits.view(2, 8, 8)), loss(logits))
    assert loss(logits.bfloat16()).dtype == torch.float32


def test_nothing_above_the_floor():
    logits = torch.zeros(4, 8, requires_grad=True)
    value = RegionDiversityLoss(floor=0.99)(logits)
    value.backward()
    assert value == 0 and not logits.grad.any()


def test_one_prototype_for_all():
    logits = torch.zeros(4, 8)
    logits[:, 3] = 9
    logits.requires_grad_()
    value = RegionDiversityLoss(floor=0.8)(logits)
    value.backward()
    assert value.item() == pytest.approx(0.8, abs=1e-3)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('floor', [0, 1.1])
def test_floor_out_of_range(floor):
    with pytest.raises(ValueError, match='floor must lie'):
        RegionDiversityLoss(floor=floor)
