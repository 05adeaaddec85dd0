"""Fixed weights: the baseline of every balancer."""

from torch import Tensor

from mmfgl.models.balancers.base import TaskBalancer
from mmfgl.registry import MODELS


@MODELS.register_module()
class FixedBalancer(TaskBalancer):
    """Leave the losses as they are, but for fixed ``weights``.

    Args:
        **kwargs: Arguments of :class:`TaskBalancer`.
    """

    def _factors(self, losses: dict[str, Tensor]) -> dict[str, float]:
        return dict.fromkeys(losses, 1.0)

    def statistics(self) -> dict[str, Tensor]:
        """Nothing: fixed weights need no log."""
        return {}
