"""Fixed weights: the baseline of every balancer."""

from torch import Tensor

from mmfgl.models.balancers.base import TaskBalancer
from mmfgl.registry import MODELS


@MODELS.register_module()
class FixedBalancer(TaskBalancer):
    """Leave the losses as they are, but for fixed ``weights``."""

    def _factors(self, losses: dict[str, Tensor]) -> tuple[dict, dict]:
        return dict.fromkeys(losses, 1.0), {}
