"""MMEngine's samplers for very many images: the order is held as a tensor.

The parents turn it into a list of Python numbers, 40 bytes an image in place
of 8, in every process.
"""

from collections.abc import Iterator

import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch import Tensor

from mmfgl.registry import DATA_SAMPLERS

CHUNK = 2**16  # indices that are Python numbers at the same time


@DATA_SAMPLERS.register_module()
class CompactDefaultSampler(DefaultSampler):
    """:class:`mmengine.dataset.DefaultSampler`, of the same order."""

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank for one epoch."""
        size = len(self.dataset)
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = _order(size, self.shuffle, generator)
        # with round_up, the first images come once more at the end
        step = self.world_size * CHUNK
        for start in range(self.rank, self.total_size, step):
            stop = min(start + step, self.total_size)
            places = torch.arange(start, stop, self.world_size) % size
            yield from order[places].tolist()


@DATA_SAMPLERS.register_module()
class CompactInfiniteSampler(InfiniteSampler):
    """:class:`mmengine.dataset.InfiniteSampler`, of the same order.

    Each iteration starts at the beginning, or where :meth:`skip` says; the
    parent's second one goes on where its first ended.
    """

    first = 0

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank without end."""
        generator = torch.Generator().manual_seed(self.seed)
        at = self.rank + self.first * self.world_size
        while True:
            order = _order(self.size, self.shuffle, generator)
            while at < self.size:
                stop = at + self.world_size * CHUNK
                part = order[at : stop : self.world_size]
                yield from part.tolist()
                at += self.world_size * len(part)
            at -= self.size

    def skip(self, num_samples: int) -> None:
        """Leave out this many indices of this rank, from the beginning on."""
        self.first = num_samples


def _order(size: int, shuffle: bool, generator: torch.Generator) -> Tensor:
    """(size,) int64, as the parents draw it."""
    if shuffle:
        return torch.randperm(size, generator=generator)
    return torch.arange(size)
