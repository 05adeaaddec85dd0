import math

import pytest
import torch

from mmfgl.utils.collapse import TokenRank, distillation_statistics


def rank_of(tokens, window=1):
    rank = TokenRank(window)
    for part in tokens.chunk(window):
        rank.add(part)
    assert rank.full
    return rank.value()


def test_rank_of_known_matrices():
    torch.manual_seed(0)
    for dims in (1, 3, 8):
        axes = torch.eye(8)[:dims]
        tokens = torch.cat([axes, -axes])  # centred, equal singular values
        assert rank_of(tokens) == pytest.approx(dims)
        # neither the place of the cloud nor its scale matters
        assert rank_of(5 * tokens + 3) == pytest.approx(dims, rel=1e-3)
    assert rank_of(torch.ones(10, 8)) == 1
    noise = torch.randn(4, 500, 8)
    assert rank_of(noise) > 7.9
    reference = torch.linalg.svdvals(noise.flatten(0, 1).double())
    shares = reference / reference.sum()
    expected = math.exp(-(shares * shares.log()).sum())
    assert rank_of(noise, window=4) == pytest.approx(expected, rel=0.01)


def test_rank_of_a_window():
    rank = TokenRank(2)
    rank.add(torch.randn(50, 8))
    assert not rank.full
    rank.add(torch.ones(50, 8))
    rank.add(torch.ones(50, 8))  # the first batch has left the window
    assert rank.value() == 1


def test_statistics_of_known_targets():
    logits = torch.zeros(2, 4, 8)
    chosen = torch.ones(2, 4, dtype=torch.bool)
    uniform = torch.full((2, 4, 8), 1 / 8)
    stats = distillation_statistics(logits, uniform, chosen, 0.1)
    assert stats == pytest.approx(dict(entropy=1, diversity=1, kl=0), abs=1e-6)

    one_hot = torch.eye(8).view(2, 4, 8)
    stats = distillation_statistics(logits, one_hot, chosen, 0.1)
    assert stats == pytest.approx(dict(entropy=0, diversity=1, kl=1), abs=1e-6)

    same = torch.eye(8)[:1].expand(2, 4, 8)
    sharp = same.clone()
    stats = distillation_statistics(sharp, same, chosen, 0.01)
    assert stats == pytest.approx(dict(entropy=0, diversity=0, kl=0), abs=1e-6)


def test_kl_counts_chosen_tokens_only():
    torch.manual_seed(0)
    logits = torch.randn(6, 5)
    targets = torch.randn(6, 5).softmax(-1)
    chosen = torch.tensor([1, 0, 1, 0, 0, 0], dtype=torch.bool)
    stats = distillation_statistics(logits, targets, chosen, 0.5)
    expected = torch.nn.functional.kl_div(
        (logits[chosen] / 0.5).log_softmax(-1),
        targets[chosen],
        reduction='batchmean',
    )
    assert stats['kl'] == pytest.approx(float(expected) / math.log(5))
    none = torch.zeros_like(chosen)
    assert distillation_statistics(logits, targets, none, 0.5)['kl'] == 0
