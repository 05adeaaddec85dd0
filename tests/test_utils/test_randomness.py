import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader

from mmfgl.utils.randomness import (
    SeededBatch,
    SeededBatches,
    rng_kept,
    seed_all,
)


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_seeds_of_neighbours_are_unrelated():
    seed_all(3, 1)
    first = draw()
    seed_all(3, 1)
    assert draw() == first
    for key in ((4, 0), (1, 3), (3, 1, 0), (3, 2)):
        seed_all(*key)
        assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_rng_is_put_back():
    seed_all(0)
    expected = draw()
    seed_all(0)
    with pytest.raises(KeyError), rng_kept():
        seed_all(9)
        draw()
        raise KeyError
    assert draw() == expected


def test_pickling_a_batch_draws_nothing():
    batch = SeededBatch([4, 2], (7, 0))
    with rng_kept():
        expected = draw()
    copy = pickle.loads(pickle.dumps(batch))
    assert draw() == expected
    assert list(copy) == [4, 2] and len(copy) == 2


class Noise:
    """Samples that are nothing but random numbers."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return torch.tensor([index, *draw()], dtype=torch.float64)


def batches(sampler, skip=0, rank=0):
    seeded = SeededBatches(BatchSampler(sampler, 3, False), 5, rank)
    if skip:
        seeded.skip(skip)
    return seeded


def loaded(seeded, num, workers=0):
    loader = DataLoader(Noise(), batch_sampler=seeded, num_workers=workers)
    return [batch for batch, _ in zip(loader, range(num), strict=False)]


def test_samples_do_not_depend_on_workers_or_history():
    def sampler():
        return InfiniteSampler(Noise(), seed=1)

    straight = loaded(batches(sampler()), 8)
    assert len({tuple(row.tolist()) for b in straight for row in b}) == 24
    for workers in (0, 2):
        later = loaded(batches(sampler(), skip=3), 5, workers)
        for one, other in zip(straight[3:], later, strict=True):
            assert torch.equal(one, other)
    other_rank = loaded(batches(sampler(), rank=1), 1)[0]
    assert not torch.equal(other_rank[:, 1:], straight[0][:, 1:])


@pytest.mark.parametrize('skip', [0, 1, 3, 4, 7])
def test_finite_sampler_is_passed_through_several_times(skip):
    def run(seeded, passes):
        """(epoch, keys and indices), as MMEngine's infinite loop goes on."""
        found = []
        for _ in range(passes):
            for batch in seeded:
                found.append((batch.key, list(batch)))
            seeded.sampler.set_epoch(seeded.epoch)
        return found

    straight = run(batches(DefaultSampler(Noise(), seed=2)), 3)
    assert len(straight) == 9
    assert straight[0][1] != straight[3][1]  # shuffled anew
    later = run(batches(DefaultSampler(Noise(), seed=2), skip), 3)
    assert later[: 9 - skip] == straight[skip:]


def test_sampler_without_batches():
    with pytest.raises(RuntimeError, match='no batch'):
        batches([], skip=1)
