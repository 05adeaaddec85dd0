"""Losses and balancers on two ranks."""

import torch
from mmengine.dist import all_gather, all_reduce, get_rank

from mmfgl.models.balancers import TaskAdaptiveLoss, TaskDraw, TaskLoss
from mmfgl.models.losses import (
    DenseDistillLoss,
    QueueSimilarityLoss,
    RegionDistillLoss,
    RegionDiversityLoss,
    RegionRelationLoss,
    RegionTargets,
)

MODES = ['centring', 'sinkhorn']


def logits_of(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 8, generator=generator) * 0.5


def shared_gradient(logits):
    """Gradient of a parameter that every token reads."""
    bias = torch.zeros(8, requires_grad=True)
    RegionDiversityLoss(floor=1.0)(logits + bias).backward()
    return bias.grad


def distilled(tokens, maps):
    """Sum of both losses of a layer, as DDP would train it, and gradients."""
    layer = torch.linspace(-1, 1, 64).view(8, 8).requires_grad_()
    relation = RegionRelationLoss()(tokens @ layer, tokens)
    relation.backward()
    related, layer.grad = layer.grad, None
    pred = torch.einsum('bchw,cd->bdhw', maps, layer)
    dense = DenseDistillLoss()(pred, maps)
    dense.backward()
    return [relation.detach(), dense.detach()], [related, layer.grad]


def run_rank(folder):
    """Everything that one rank computes; ranks see different data."""
    rank = get_rank()
    gradient = shared_gradient(logits_of(12)[6 * rank : 6 * rank + 6])
    all_reduce(gradient, op='mean')

    speed = dict(costs=dict(a=1.0, b=4.0), warmup=2, speed=1.0)
    balancer = TaskAdaptiveLoss(('a', 'b'), speed=speed)
    history = []
    generator = torch.Generator().manual_seed(rank)
    for _ in range(20):
        draw = balancer.draw()
        values = map(TaskLoss, torch.rand(2, generator=generator))
        losses = dict(zip('ab', values, strict=True))
        out = balancer({name: losses[name] for name in draw.scales}, draw)
        history.append(
            {k: out[f'weight_{k}'].item() for k in sorted(draw.scales)}
        )

    measured = TaskAdaptiveLoss(('a', 'b'), speed={})
    seconds = dict(a=1.0 + rank, b=4.0)
    measured(losses, TaskDraw(dict(a=1.0, b=1.0), seconds))

    targets = logits_of(6, seed=3).softmax(dim=1)[2 * rank : 4 + 2 * rank]
    chosen = torch.tensor([True, rank == 0, False, True])
    floor = RegionDistillLoss().floor(targets, chosen)
    all_reduce(floor, op='mean')

    shared = {}
    for mode in MODES:
        module = RegionTargets(8, mode)
        part = module(logits_of(12)[6 * rank : 6 * rank + 6])
        whole = torch.cat(all_gather(part)).tolist()
        shared[mode] = whole, module.centre.tolist()

    queue = QueueSimilarityLoss(8, queue_len=6)
    for step in range(2):
        part = logits_of(4, seed=step)[2 * rank : 2 * rank + 2]
        queue(part, part)
    distil = []
    for counts in ((3, 2), (5, 0)):
        tokens = logits_of(5, seed=7).split(counts)[rank]
        maps = logits_of(4, seed=8).view(4, 8, 1, 1).expand(4, 8, 2, 3)
        for found in distilled(tokens, maps[2 * rank : 2 * rank + 2]):
            for value in found:
                all_reduce(value, op='mean')
                distil.append(value.tolist())
    return dict(
        distil=distil,
        gradient=gradient.tolist(),
        history=history,
        costs=measured.sampler.costs.tolist(),
        floor=floor.item(),
        shared=shared,
        queue=queue.queue.tolist(),
    )


def test_two_ranks(two_ranks):
    first, second, _ = two_ranks('test_losses')
    assert first == second
    # that of the whole batch on one rank
    torch.testing.assert_close(
        torch.tensor(first['gradient']), shared_gradient(logits_of(12))
    )
    # as one batch, however many tokens a rank has
    maps = logits_of(4, seed=8).view(4, 8, 1, 1).expand(4, 8, 2, 3)
    values, gradients = distilled(logits_of(5, seed=7), maps)
    for number, found in enumerate(first['distil']):
        expected = [*values, *gradients][number % 4]
        torch.testing.assert_close(torch.tensor(found), expected)
    # tasks were skipped
    assert len({len(factors) for factors in first['history']}) == 2
    assert first['costs'] == [1.5, 4.0]
    targets = logits_of(6, seed=3).softmax(dim=1)[[0, 1, 3, 2, 5]]
    entropy = -(targets * targets.log()).sum(dim=1).mean()
    torch.testing.assert_close(torch.tensor(first['floor']), entropy)
    # targets and centre are those of one batch
    for mode, found in first['shared'].items():
        module = RegionTargets(8, mode)
        expected = module(logits_of(12)), module.centre
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(
                torch.tensor(one), other, atol=1e-6, rtol=1e-4
            )
    # the latest 6 of 8, in their places
    old, new = logits_of(4, seed=0), logits_of(4, seed=1)
    kept = torch.cat([new[2:], old[2:], new[:2]])
    torch.testing.assert_close(torch.tensor(first['queue']), kept)
