"""Losses of three tasks as they fall in training, and what a balancer does."""

import torch

from mmfgl.models.balancers import TaskLoss

NAMES = ('a', 'b', 'c')


def series(steps, seed=0, scale=(1.0, 1.0, 1.0)):
    """Falling, noisy losses of the three tasks."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(steps, 3, generator=generator) * 0.2 + 0.9
    rates = torch.tensor([0.9, 0.97, 1.0])
    for step in range(steps):
        values = rates**step * noise[step] * torch.tensor(scale)
        yield dict(zip(NAMES, values.unbind(), strict=True))


def factors_of(balancer, losses, draw=None):
    """What each loss is multiplied with, and all that was returned."""
    out = balancer({k: TaskLoss(v) for k, v in losses.items()}, draw)
    factors = {k: float(out[f'loss_{k}'] / v) for k, v in losses.items()}
    return factors, out


def drive(balancer, steps=20, **options):
    """Factors of each step, tasks drawn as in training."""
    results = []
    for losses in series(steps, **options):
        draw = balancer.draw()
        ran = {k: losses[k] for k in draw.scales}
        results.append(factors_of(balancer, ran, draw)[0])
    return results
