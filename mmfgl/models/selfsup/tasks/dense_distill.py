"""Dense distillation: feature maps like those of a frozen teacher."""

from collections.abc import Sequence

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
    is dropped after the pretraining.

    Args:
        teacher: Config of :class:`FrozenTeacher`.
        backbone: (channels, teacher's map) for the maps of the backbone, in
            their order; those beyond the last are left out.
        neck: The same for the pyramid.
        loss_weight: Weight of the loss, the mean over all maps.

    Raises:
        ValueError: If there is no map to match.
    """

    name = 'dense'

    def __init__(
        self,
        teacher: dict,
        backbone: Sequence[tuple[int, int]] = (),
        neck: Sequence[tuple[int, int]] = (),
        loss_weight: float = 5.0,
    ) -> None:
        super().__init__()
        if not len(backbone) + len(neck):
            raise ValueError(
                'DenseDistillTask has no map to match: give backbone or neck '
                "as (channels, teacher's map) a level"
            )
        self.teacher = MODELS.build(teacher)
        self.targets = dict(
            backbone=[index for _, index in backbone],
            neck=[index for _, index in neck],
        )
        for name, levels in (('backbone', backbone), ('neck', neck)):
            convs = [
                nn.Conv2d(channels, self.teacher.out_channels[index], 1)
                for channels, index in levels
            ]
            self.add_module(f'{name}_convs', nn.ModuleList(convs))
        self.criterion = DenseDistillLoss(loss_weight)

    def check(self, model: nn.Module) -> None:
        """Tell the teacher how the views are normalised."""
        self.teacher.match(model.normalisation)

    def loss(self, context: TaskContext) -> TaskLoss:
        """Mean over the maps; each is logged as ``dense/<part><level>``."""
        teacher = self.teacher(context.views)
        parts = {}
        for name, maps in (
            ('backbone', context.maps),
            ('neck', context.feats),
        ):
            convs = self.get_submodule(f'{name}_convs')
            for level, index in enumerate(self.targets[name]):
                pred = convs[level](maps[level])
                value = self.criterion(pred, teacher[index])
                parts[f'{self.name}/{name}{level}'] = value
        return TaskLoss(
            sum(parts.values()) / len(parts),
            loss_scale=self.criterion.loss_weight,
            logs={key: value.detach() for key, value in parts.items()},
        )
