import math

import pytest
import torch

from mmfgl.models.losses import RegionDistillLoss, region_embedding_loss

PROTOTYPES = 12


def cosines(*shape, seed=0):
    """Logits as the projector gives them: cosines in [-1, 1]."""
    return torch.rand(*shape, generator=torch.manual_seed(seed)) * 2 - 1


def loss_inputs():
    """Logits, targets and chosen flags of 8 tokens, seeded."""
    logits = cosines(8, PROTOTYPES, seed=1)
    targets = (cosines(8, PROTOTYPES, seed=2) / 0.1).softmax(dim=-1)
    chosen = torch.tensor([1, 1, 0, 1, 0, 0, 0, 1]).bool()
    return logits, targets, chosen


def test_loss_equals_a_plain_computation():
    logits, targets, chosen = loss_inputs()
    total = 0.0
    for row, target, flag in zip(logits, targets, chosen, strict=True):
        if flag:
            norm = math.log(sum(math.exp(v / 0.2) for v in row.tolist()))
            total -= sum(
                t * (v / 0.2 - norm)
                for t, v in zip(target.tolist(), row.tolist(), strict=True)
            )
    loss = RegionDistillLoss(temperature=0.2, loss_weight=3.0)
    value = loss(logits, targets, chosen)
    assert value.item() == pytest.approx(3 * total / 4, rel=1e-5)


def test_no_chosen_token_gives_zero_with_a_graph():
    logits, targets, chosen = loss_inputs()
    logits.requires_grad_()
    value = RegionDistillLoss()(logits, targets, torch.zeros_like(chosen))
    assert value.item() == 0
    value.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_gradient_reaches_the_chosen_tokens_alone():
    logits, targets, chosen = loss_inputs()
    logits.requires_grad_()
    RegionDistillLoss()(logits, targets, chosen).backward()
    assert (logits.grad[chosen].abs().sum(dim=-1) > 0).all()
    assert (logits.grad[~chosen] == 0).all()
    # of a cross-entropy: (student - target) / (temperature x count)
    student = (logits.detach() / 0.1).softmax(dim=-1)
    expected = (student - targets)[chosen] / 0.1 / 4
    torch.testing.assert_close(logits.grad[chosen], expected)


def test_loss_stays_in_fp32_under_autocast():
    logits, targets, chosen = loss_inputs()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = RegionDistillLoss()(logits, targets, chosen)
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value, RegionDistillLoss()(logits, targets, chosen)
    )


def test_every_token_weighs_the_same_on_two_ranks(monkeypatch):
    loss = RegionDistillLoss()
    logits, targets, chosen = loss_inputs()
    expected = loss(logits, targets, chosen)
    shared = region_embedding_loss  # where the mean over ranks is
    monkeypatch.setattr(
        shared, 'all_reduce', lambda count, op: count.fill_(chosen.sum())
    )
    monkeypatch.setattr(shared, 'get_world_size', lambda: 2)
    # 3 + 5 tokens, 2 + 2 of them chosen; then 1 + 7 tokens, 1 + 3 chosen
    for cut in (3, 1):
        ranks = [
            loss(logits[part], targets[part], chosen[part])
            for part in (slice(None, cut), slice(cut, None))
        ]
        # data-parallel training averages over the ranks
        torch.testing.assert_close(sum(ranks) / 2, expected)
