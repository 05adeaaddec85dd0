"""Region distillation: the teacher's view of a region in the other view."""

import math

from torch import Tensor, nn

from mmfgl.models.balancers import TaskLoss
from mmfgl.models.losses import RegionDistillLoss, target_statistics
from mmfgl.models.roi_heads import FGLRoIHead
from mmfgl.models.selfsup.prototype_head import PrototypeHead
from mmfgl.models.selfsup.region_encoding import has_shared_features
from mmfgl.models.selfsup.task_context import TaskContext
from mmfgl.models.selfsup.tasks.base import PretrainingTask
from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionDistillTask(PretrainingTask):
    """Predict the EMA teacher's prototypes of a region in the other view.

    Args:
        temperature: Temperature of the student.
        loss_weight: Weight of the loss.
    """

    name = 'distill'
    needs = ('logits', 'targets')

    def __init__(
        self, temperature: float = 0.1, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.criterion = RegionDistillLoss(temperature, loss_weight)

    def check(self, model: nn.Module) -> None:
        """Make sure that there are tokens, prototypes and a teacher."""
        check_prototypes(self, model)
        if model.target_generator is None:
            raise ValueError(
                f'{type(self).__name__} learns from the EMA teacher: give '
                "ReToD target_generator=dict(type='mmfgl.EMATeacher')"
            )

    def loss(self, context: TaskContext) -> TaskLoss:
        """Cross-entropy of the unmasked tokens with the other view's targets.

        Raises:
            ValueError: If there are not two views.
        """
        if context.num_views != 2:
            raise ValueError(
                'RegionDistillTask compares two views of an image, but there '
                f'is {context.num_views}: set num_views=2 of the view '
                'transform'
            )
        # the other view of row v * B + b is row (1 - v) * B + b
        targets = context.targets.roll(len(context.data_samples), 0)
        return self.compare(context, targets, context.unmasked)

    def compare(
        self, context: TaskContext, targets: Tensor, chosen: Tensor
    ) -> TaskLoss:
        """Cross-entropy of chosen tokens with targets.

        Args:
            context: Gives the student's logits.
            targets: (V B, N, K) distributions.
            chosen: (V B, N) bool.

        Returns:
            The loss; ``kl_<task>`` (its excess over log K), and statistics of
            the targets are logged.
        """
        value = self.criterion(context.logits, targets, chosen)
        loss = TaskLoss(
            value,
            floor=self.criterion.floor(targets, chosen),
            loss_scale=self.criterion.loss_weight
            * math.log(targets.shape[-1]),
        )
        loss.logs[f'kl_{self.name}'] = loss.excess.detach()
        loss.logs.update(target_statistics(targets))
        return loss


def check_prototypes(task: PretrainingTask, model: nn.Module) -> None:
    """Raise a ValueError unless a ReToD has region tokens and prototypes."""
    name = type(task).__name__
    if not isinstance(model.head, PrototypeHead):
        raise ValueError(
            f'{name} compares distributions over prototypes: give ReToD '
            "head=dict(type='mmfgl.PrototypeHead', projector=..., "
            'targets=...)'
        )
    head = model.roi_head
    if not isinstance(head, FGLRoIHead) and not has_shared_features(head):
        raise ValueError(
            f'{name} reads region tokens: use mmfgl.FGLRoIHead, or a box head '
            'with shared fully connected layers such as Shared2FCBBoxHead'
        )
