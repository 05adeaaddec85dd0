import math

import pytest
import torch

from mmfgl.utils.collapse import TokenRank


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
