"""Balancers against their papers' equations."""

import math

import pytest
import torch

from mmfgl.models.balancers import (
    DWABalancer,
    FAMOBalancer,
    TaskLoss,
    UncertaintyBalancer,
)
from tests.test_models.test_balancers.falling_losses import (
    NAMES,
    drive,
    factors_of,
    series,
)


def test_famo_gradient():
    balancer = FAMOBalancer(NAMES, eps=0.1)
    drive(balancer)
    balancer.eval()
    theta = torch.tensor([0.5, 0.8, 0.3], requires_grad=True)
    losses = map(TaskLoss, theta.square().unbind())
    out = balancer(dict(zip(NAMES, losses, strict=True)))
    sum(v for k, v in out.items() if 'loss' in k).backward()
    got = theta.grad.clone()
    theta.grad = None
    logs = (theta.square() + 0.1).log()
    (balancer.shares * logs).sum().backward()
    # the same direction; C is about the harmonic mean
    ratio = got / theta.grad
    torch.testing.assert_close(ratio, ratio[:1].expand(3))
    assert ratio[0] > 0


def test_uncertainty_learns_by_gradient():
    balancer = UncertaintyBalancer(NAMES)
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.2)
    values = dict(a=2.0, b=0.5, c=1.0)
    losses = {k: TaskLoss(torch.tensor(v)) for k, v in values.items()}
    for _ in range(200):
        terms = {k: v for k, v in balancer(losses).items() if 'loss' in k}
        assert set(terms) == {*(f'loss_{n}' for n in NAMES), 'loss_balance'}
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    # exp(-s) l + s / 2 is least at s = log 2 l
    expected = torch.tensor([4.0, 1.0, 2.0]).log()
    torch.testing.assert_close(
        balancer.log_variances.detach(), expected, atol=1e-3, rtol=0
    )


def test_dwa_by_hand():
    balancer = DWABalancer(('a', 'b'), interval=2, temperature=2.0)
    values = [(4.0, 1.0), (2.0, 1.0), (2.0, 1.0), (1.0, 1.0), (9.0, 9.0)]
    for a, b in values:
        losses = dict(a=torch.tensor(a), b=torch.tensor(b))
        factors, _ = factors_of(balancer, losses)
    # averages 3, 1.5 and 1, 1: ratios 0.5 and 1
    expected = 2 * torch.tensor([0.25, 0.5]).softmax(dim=0)
    got = torch.tensor([factors['a'], factors['b']])
    torch.testing.assert_close(got, expected)


def test_famo_against_its_equations():
    """Arithmetic of arXiv 2306.03792, written down task by task.

    Losses are compared with those of the next batch: see FAMOBalancer.
    """
    beta, gamma, eps = 0.1, 0.01, 1e-3
    balancer = FAMOBalancer(NAMES, beta=beta, gamma=gamma, eps=eps)
    xi, last = [0.0] * 3, None
    for losses in series(12):
        factors, _ = factors_of(balancer, losses)
        values = [float(losses[name]) for name in NAMES]
        z = torch.tensor(xi).softmax(0).tolist()
        before = last or values
        c = 3 / sum(w / (v + eps) for w, v in zip(z, before))
        expected = [c * w / (v + eps) for w, v in zip(z, values)]
        assert list(factors.values()) == pytest.approx(expected, rel=1e-4)
        if last is not None:
            delta = [
                math.log(old + eps) - math.log(new + eps)
                for old, new in zip(last, values)
            ]
            mean = sum(w * d for w, d in zip(z, delta))
            # Jacobian of the softmax: z_k (delta_k - sum_j z_j delta_j)
            grad = [w * (d - mean) for w, d in zip(z, delta)]
            xi = [x - beta * (g + gamma * x) for x, g in zip(xi, grad)]
        last = values
