import pytest
import torch

from mmfgl.models.losses import DenseDistillLoss


def test_equal_maps_cost_nothing():
    target = torch.randn(2, 5, 6, 4)
    var, mean = torch.var_mean(target, (0, 2, 3), correction=0, keepdim=True)
    loss = DenseDistillLoss(2.0)((target - mean) / var.sqrt(), target)
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_no_channel_decides_alone():
    """Scale and offset of the teacher's channels change nothing."""
    pred, target = torch.randn(2, 2, 5, 6, 6)
    other = target * torch.logspace(-2, 3, 5).view(1, 5, 1, 1) + 7
    loss = DenseDistillLoss()
    torch.testing.assert_close(
        loss(pred, target), loss(pred, other), atol=1e-3, rtol=0
    )


def test_sizes_and_precision():
    pred = torch.randn(2, 5, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    loss = DenseDistillLoss()(pred, torch.randn(2, 5, 4, 4))
    assert loss.dtype is torch.float32
    loss.backward()
    assert pred.grad.isfinite().all() and pred.grad.abs().sum() > 0


def test_constant_teacher():
    loss = DenseDistillLoss()(torch.randn(1, 3, 1, 1), torch.ones(1, 3, 1, 1))
    assert loss.isfinite()


def test_an_uninformed_guess_costs_the_weight():
    pred = torch.randn(4, 64, 16, 16)
    loss = DenseDistillLoss(5.0)(pred, torch.randn(4, 64, 16, 16))
    assert loss.item() == pytest.approx(5, abs=0.1)
