"""Losses of the region teacher's embeddings."""

import pytest
import torch
import torch.nn.functional as F

from mmfgl.models.losses import RegionEmbeddingLoss, RegionRelationLoss


def rows(count, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator)


def test_cosine():
    target = rows(5, 8)
    criterion = RegionEmbeddingLoss(loss_weight=2.0)
    assert criterion(3 * target, target).item() == pytest.approx(0, abs=1e-6)
    assert criterion(-target, target).item() == pytest.approx(4)
    pred = rows(5, 8, seed=1)
    expected = (F.normalize(pred) - F.normalize(target)).pow(2).sum(1).mean()
    torch.testing.assert_close(criterion(pred, target), expected)
    half = criterion(pred.bfloat16(), target.half())
    assert half.dtype == torch.float32


def test_relations_of_a_rotated_copy_fit():
    target = rows(6, 8)
    rotation, _ = torch.linalg.qr(rows(8, 8, seed=1))
    criterion = RegionRelationLoss(loss_weight=2.0)
    assert criterion(3 * target @ rotation, target).item() < 1e-5
    other = rows(6, 10, seed=2)
    loss = criterion(other, target)
    assert loss > 1
    # by hand, of the first token
    probs, own = (
        (F.normalize(x)[1:] @ F.normalize(x)[0] / 0.07).log_softmax(0)
        for x in (target, other)
    )
    first = (probs.exp() * (probs - own)).sum()
    single = RegionRelationLoss()
    order = torch.randperm(6)
    torch.testing.assert_close(
        single(other[order], target[order]) * 2, loss, rtol=1e-4, atol=1e-5
    )
    assert 0 < first / 6 < single(other, target)
    half = criterion(other.bfloat16(), target.half())
    assert half.dtype == torch.float32


@pytest.mark.parametrize('count', [0, 1])
@pytest.mark.parametrize('kind', [RegionEmbeddingLoss, RegionRelationLoss])
def test_few_tokens_keep_a_graph(kind, count):
    pred = rows(count, 4).requires_grad_()
    loss = kind()(pred, rows(count, 4, seed=1))
    loss.backward()
    assert loss.isfinite() and pred.grad.isfinite().all()
    if not count or kind is RegionRelationLoss:
        assert loss == 0


def test_temperature():
    with pytest.raises(ValueError, match='temperature must be > 0, got 0'):
        RegionRelationLoss(temperature=0)
