"""Dynamic weight average."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmfgl.models.balancers.base import TaskBalancer
from mmfgl.registry import MODELS


@MODELS.register_module()
class DWABalancer(TaskBalancer):
    """Weigh tasks by how slowly their losses fall (arXiv 1803.10704).

    Losses are averaged over ``interval`` batches (an epoch in the paper). With
    r_k = the last average over the one before, the factors are
    ``T * softmax(r / temperature)``; 1 until there are two averages.

    Args:
        tasks: Names of all tasks.
        temperature: Temperature of the softmax; large values even it out.
        interval: Batches in one average.
        **kwargs: Arguments of :class:`TaskBalancer`.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        temperature: float = 2.0,
        interval: int = 50,
        **kwargs,
    ) -> None:
        super().__init__(tasks, **kwargs)
        if interval < 1 or temperature <= 0:
            raise ValueError(
                'DWABalancer needs interval >= 1 and temperature > 0, got '
                f'{interval} and {temperature}'
            )
        self.temperature = temperature
        self.interval = interval
        count = len(self.tasks)
        self.register_buffer('sums', torch.zeros(count))
        self.register_buffer('steps', torch.tensor(0))
        # the last average and the one before; 1 = no ratio yet
        self.register_buffer('averages', torch.ones(2, count))
        self.register_buffer('num_averages', torch.tensor(0))

    @torch.no_grad()
    def _factors(self, losses: dict[str, Tensor]) -> tuple[dict, dict]:
        if self.training:
            values, _ = self._gather(losses)
            self.sums += values
            self.steps += 1
            # without a branch, which would wait for the device
            full = self.steps >= self.interval
            latest = torch.stack([self.sums / self.steps, self.averages[0]])
            self.averages.copy_(torch.where(full, latest, self.averages))
            self.num_averages += full
            self.sums *= ~full
            self.steps *= ~full
        ratios = self.averages[0] / self.averages[1].clamp(min=1e-12)
        factors = len(ratios) * (ratios / self.temperature).softmax(dim=0)
        factors = torch.where(self.num_averages >= 2, factors, 1.0)
        return dict(zip(self.tasks, factors.unbind(), strict=True)), {}
