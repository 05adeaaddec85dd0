"""What every task of ReToD has in common."""

from mmengine.model import BaseModule
from torch import nn

from mmfgl.models.balancers import TaskLoss
from mmfgl.models.selfsup.task_context import TaskContext


class PretrainingTask(BaseModule):
    """One task of the pretraining, built only if the config lists it.

    Attributes:
        name: Its name in logs, weights and :class:`TaskBalancer`.
        needs: What it shares with other tasks: attributes of
            :class:`TaskContext` that are costly to compute.
    """

    name: str
    needs: tuple[str, ...] = ()

    def check(self, model: nn.Module) -> None:
        """Raise a ValueError unless a ReToD has what the task trains."""

    def loss(self, context: TaskContext) -> TaskLoss:
        """Loss of one training step, from what its tasks share."""
        raise NotImplementedError
