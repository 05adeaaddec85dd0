"""Homoscedastic uncertainty as the weight of a task."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfgl.models.balancers.base import TaskBalancer
from mmfgl.registry import MODELS


@MODELS.register_module()
class UncertaintyBalancer(TaskBalancer):
    """Learn a variance for each task (Kendall et al., arXiv 1705.07115).

    The term of task k is ``exp(-s_k) * loss_k + s_k / 2``, times its fixed
    weight, with the log-variance ``s_k`` learnt by gradient from 0. Leave
    ``s`` out of weight decay, which pulls the factors towards 1:
    ``paramwise_cfg=dict(custom_keys={'balancer': dict(decay_mult=0.0)})``.

    Args:
        tasks: Names of all tasks.
        **kwargs: Arguments of :class:`TaskBalancer`.
    """

    def __init__(self, tasks: Sequence[str], **kwargs) -> None:
        super().__init__(tasks, **kwargs)
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))
        fixed = torch.tensor([self.weights[name] for name in self.tasks])
        self.register_buffer('_fixed', fixed, persistent=False)

    def _factors(self, losses: dict[str, Tensor]) -> tuple[dict, dict]:
        factors = (-self.log_variances).exp().unbind()
        return dict(zip(self.tasks, factors, strict=True)), {}

    def _own_losses(self) -> dict[str, Tensor]:
        # half the log-variances stop the factors from vanishing; with the
        # fixed weights, which they would else come to cancel
        return dict(loss_balance=(self._fixed * self.log_variances).sum() / 2)
