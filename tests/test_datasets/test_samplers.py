"""The compact samplers draw what MMEngine's draw."""

from itertools import islice

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler

from mmfgl.datasets import (
    CompactDefaultSampler,
    CompactInfiniteSampler,
    samplers,
)


@pytest.fixture(params=[(0, 1), (0, 3), (2, 3), (7, 8)], ids=str)
def rank(request, monkeypatch):
    monkeypatch.setattr(samplers, 'CHUNK', 2)
    name = 'mmengine.dataset.sampler.get_dist_info'
    monkeypatch.setattr(name, lambda: request.param)


@pytest.mark.parametrize('size', [1, 5, 12])
@pytest.mark.parametrize('shuffle', [True, False])
@pytest.mark.parametrize('round_up', [True, False])
def test_default(rank, size, shuffle, round_up):
    options = dict(shuffle=shuffle, seed=4, round_up=round_up)
    parent = DefaultSampler(range(size), **options)
    ours = CompactDefaultSampler(range(size), **options)
    for epoch in (0, 3):
        parent.set_epoch(epoch)
        ours.set_epoch(epoch)
        drawn = list(ours)
        assert drawn == list(parent)
        assert len(drawn) == len(ours) or not round_up
        assert all(type(index) is int for index in drawn)


@pytest.mark.parametrize('size', [1, 5, 12])
@pytest.mark.parametrize('shuffle', [True, False])
def test_infinite(rank, size, shuffle):
    parent = InfiniteSampler(range(size), shuffle=shuffle, seed=4)
    ours = CompactInfiniteSampler(range(size), shuffle=shuffle, seed=4)
    drawn = list(islice(ours, 40))
    assert drawn == list(islice(parent, 40))
    assert list(islice(ours, 40)) == drawn
    ours.skip(17)
    assert list(islice(ours, 23)) == drawn[17:]


def test_an_index_is_no_python_number_for_long(monkeypatch):
    lengths = []

    real = samplers.torch.Tensor.tolist
    monkeypatch.setattr(
        samplers.torch.Tensor,
        'tolist',
        lambda self: lengths.append(len(self)) or real(self),
    )
    size = 3 * samplers.CHUNK + 5
    assert sum(1 for _ in CompactDefaultSampler(range(size), seed=0)) == size
    next(iter(CompactInfiniteSampler(range(size), seed=0)))
    assert max(lengths) == samplers.CHUNK
