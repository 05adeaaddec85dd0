"""Random numbers that depend on where a run is, not on how it got there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler


def seed_all(*key: int) -> None:
    """Seed Python, NumPy and PyTorch (CPU and GPUs) from a tuple of numbers.

    Different tuples give unrelated streams (NumPy's ``SeedSequence``), so
    (seed, iteration 1) has nothing in common with (seed + 1, iteration 0).
    """
    sequence = np.random.SeedSequence((len(key), *key))
    words = sequence.generate_state(4, np.uint64)
    random.seed(int(words[0]))
    np.random.seed(words[1:3].view(np.uint32))
    torch.manual_seed(int(words[3]))


@contextmanager
def rng_kept() -> Iterator[None]:
    """Put the global random states back afterwards, whatever happens inside.

    Covers Python, NumPy and PyTorch on the CPU and, once CUDA is in use, on
    every GPU.
    """
    states = random.getstate(), np.random.get_state()
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    gpus = range(torch.cuda.device_count() if in_use else 0)
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


class SeededBatch:
    """Indices of one batch; iterating seeds before each of them.

    A data loader hands a batch of indices to a worker, which loads them one
    by one: that is where the augmentations of a sample get their seed, with
    no change to data set, transforms or workers.
    """

    def __init__(self, indices: list[int], key: tuple[int, ...]) -> None:
        self.indices = list(indices)
        self.key = key

    def __len__(self) -> int:
        """Size of the batch."""
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        """Seed for, then yield, each index."""
        for slot, index in enumerate(self.indices):
            seed_all(*self.key, slot)
            yield index


class SeededBatches(Sampler):
    """A batch sampler whose batches seed the augmentations they cause.

    The seed of a sample is made of (seed, rank, epoch, number of the batch,
    place in the batch): it is the same in whichever worker the sample is
    loaded, after whatever other samples. ``batches`` is any batch sampler.
    """

    def __init__(self, batches: Any, seed: int, rank: int = 0) -> None:
        self.batches = batches
        self.seed = seed
        self.rank = rank
        self.epoch = 0
        self._started: tuple[Iterator[list[int]], int] | None = None
        self._left_out = 0

    @property
    def sampler(self) -> Any:
        """The sampler of the wrapped batch sampler, for MMEngine's hooks."""
        return getattr(self.batches, 'sampler', self.batches)

    @property
    def batch_size(self) -> int | None:
        """The batch size of the wrapped batch sampler, if it has one."""
        return getattr(self.batches, 'batch_size', None)

    def __len__(self) -> int:
        """Number of batches, as the wrapped sampler sees it."""
        return len(self.batches)

    def __iter__(self) -> Iterator[SeededBatch]:
        """Batches of one pass, or the rest of one after a call below."""
        batches, first = self._started or (iter(self.batches), 0)
        self._started = None
        # only now: MMEngine tells samplers their epoch after our hooks
        while first < self._left_out:
            next(batches, None)
            first += 1
        self._left_out = 0
        for number, batch in enumerate(batches, first):
            key = (self.seed, self.rank, self.epoch, number)
            yield SeededBatch(batch, key)
        self.epoch += 1

    def skip(self, num_batches: int) -> None:
        """Go on after this many batches of the run; only indices are drawn.

        Call it before anything is loaded. A finite sampler is passed through
        as often as needed; ``epoch`` then says how often.

        Raises:
            RuntimeError: The sampler yields no batch at all.
        """
        self._set_epoch(0)
        batches, number = iter(self.batches), 0
        for _ in range(num_batches):
            if next(batches, None) is None:
                if number == 0:
                    raise RuntimeError('the batch sampler yields no batch')
                self._set_epoch(self.epoch + 1)
                batches, number = iter(self.batches), 0
                next(batches)
            number += 1
        self._started = batches, number

    def start_at(self, number: int) -> None:
        """Leave out the first batches of the next pass, unloaded."""
        self._left_out = number

    def _set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)
