"""Diversity: keeps the student from using only a few prototypes."""

from torch import nn

from mmfgl.models.balancers import TaskLoss
from mmfgl.models.losses import RegionDiversityLoss
from mmfgl.models.selfsup.task_context import TaskContext
from mmfgl.models.selfsup.tasks.base import PretrainingTask
from mmfgl.models.selfsup.tasks.region_distill import check_prototypes
from mmfgl.registry import MODELS


@MODELS.register_module()
class DiversityTask(PretrainingTask):
    """Hold the entropy of the student's mean distribution above a floor.

    Balancers leave it unbalanced: it is zero as long as the prototypes are
    used evenly enough.

    Args:
        **kwargs: Arguments of :class:`RegionDiversityLoss`.
    """

    name = 'diversity'
    needs = ('logits',)

    def __init__(self, **kwargs) -> None:
        super().__init__()
        self.criterion = RegionDiversityLoss(**kwargs)

    def check(self, model: nn.Module) -> None:
        """Make sure that there are tokens and prototypes."""
        check_prototypes(self, model)

    def loss(self, context: TaskContext) -> TaskLoss:
        """How far the entropy falls below the floor."""
        return TaskLoss(self.criterion(context.logits))
