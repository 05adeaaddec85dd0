"""Dense distillation: feature maps like those of a frozen teacher."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import nn

from mmfgl.models.balancers import TaskLoss
from mmfgl.models.losses import DenseDistillLoss
from mmfgl.models.selfsup.task_context import TaskContext
from mmfgl.models.selfsup.tasks.base import PretrainingTask
from mmfgl.registry import MODELS


@MODELS.register_module()
class DenseDistillTask(PretrainingTask):
    """Match maps of backbone and pyramid to a frozen teacher's, same view.

    Each map of the student goes through a 1x1 convolution of its own, which
    is dropped after the pretraining. They are compared at the smaller of both
    sizes.

    Args:
        teacher: Config of :class:`FrozenTeacher`.
        backbone: (channels, teacher's map) for the maps of the backbone, in
            their order; ``None``, and those beyond the last, are left out.
        neck: The same for the pyramid.
        loss_weight: Weight of the loss, the mean over all maps.

    Raises:
        ValueError: If there is no map to match.
    """

    name = 'dense'

    def __init__(
        self,
        teacher: dict,
        backbone: Sequence[tuple[int, int] | None] = (),
        neck: Sequence[tuple[int, int] | None] = (),
        loss_weight: float = 5.0,
    ) -> None:
        super().__init__()
        self.teacher = MODELS.build(teacher)
        self.pairs = {}  # part and level of the student -> teacher's map
        self.convs = nn.ModuleDict()
        for part, levels in (('backbone', backbone), ('neck', neck)):
            for level, pair in enumerate(levels):
                if pair is not None:
                    channels, index = pair
                    width = self.teacher.out_channels[index]
                    conv = nn.Conv2d(channels, width, 1)
                    self.convs[f'{part}{level}'] = conv
                    self.pairs[part, level] = index
        if not self.pairs:
            raise ValueError(
                'DenseDistillTask has no map to match: give backbone or neck '
                "as (channels, teacher's map) a level"
            )
        self.criterion = DenseDistillLoss(loss_weight)

    def check(self, model: nn.Module) -> None:
        """Tell the teacher how the views are normalised."""
        self.teacher.match(model.normalisation)

    def loss(self, context: TaskContext) -> TaskLoss:
        """Mean over the maps; each is logged as ``dense/<part><level>``."""
        targets = self.teacher(context.views)
        maps = dict(backbone=context.maps, neck=context.feats)
        parts = {}
        for (part, level), index in self.pairs.items():
            source, target = maps[part][level], targets[index]
            if source.shape[-1] > target.shape[-1]:
                size = target.shape[-2:]
                source = F.adaptive_avg_pool2d(source, size)
            pred = self.convs[f'{part}{level}'](source)
            parts[f'{self.name}/{part}{level}'] = self.criterion(pred, target)
        return TaskLoss(
            sum(parts.values()) / len(parts),
            loss_scale=self.criterion.loss_weight,
            logs={key: value.detach() for key, value in parts.items()},
        )
