"""Masked region modelling: what a masked token shows, from its context."""

import torch
from torch import nn

from mmfgl.models.balancers import TaskLoss
from mmfgl.models.roi_heads import FGLRoIHead
from mmfgl.models.selfsup.region_encoding import Masking
from mmfgl.models.selfsup.task_context import TaskContext
from mmfgl.models.selfsup.tasks.region_distill import RegionDistillTask
from mmfgl.registry import MODELS


@MODELS.register_module()
class MaskedRegionTask(RegionDistillTask):
    """Predict the teacher's prototypes of regions that the student lost.

    iBOT (arXiv 2111.07832) on regions in place of patches: a random share of
    the student's tokens loses its content, and the region Transformer has to
    tell it from the others of the same view.

    Args:
        embed_dims: Token width D of the detector.
        mask_ratio: Least and largest share of tokens masked in a view.
        leak_iou: A masked token may not attend an unmasked one that overlaps
            it more than this.
        **kwargs: Arguments of :class:`RegionDistillTask`.

    Raises:
        ValueError: If ``mask_ratio`` is out of range.
    """

    name = 'mask'

    def __init__(
        self,
        embed_dims: int = 512,
        mask_ratio: tuple[float, float] = (0.1, 0.5),
        leak_iou: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < mask_ratio[0] <= mask_ratio[1] < 1:
            raise ValueError(
                'mask_ratio needs 0 < least <= largest < 1, got '
                f'{tuple(mask_ratio)}'
            )
        self.mask_ratio = tuple(mask_ratio)
        self.leak_iou = leak_iou
        self.mask_token = nn.Parameter(torch.zeros(embed_dims))
        nn.init.normal_(self.mask_token, std=0.02)

    def check(self, model: nn.Module) -> None:
        """Make sure that there is a region Transformer of the right width."""
        super().check(model)
        head, width = model.roi_head, len(self.mask_token)
        if not isinstance(head, FGLRoIHead) or not len(
            head.transformer.encoder
        ):
            raise ValueError(
                'MaskedRegionTask needs the encoder of the region '
                'Transformer, which this detector does not have: use '
                'mmfgl.FGLRoIHead, or leave the task out'
            )
        if head.transformer.embed_dims != width:
            raise ValueError(
                f'MaskedRegionTask has embed_dims={width}, but the tokens of '
                f'the detector are {head.transformer.embed_dims} wide'
            )

    def draw(self, num_views: int, num_regions: int) -> Masking:
        """Choose at random which tokens lose their content.

        Each view has a share and tokens of its own, so that views on other
        ranks need not know of it. At least one token of a view is masked and
        one is kept.

        Args:
            num_views: Number of views V B.
            num_regions: Number of regions N of a view.

        Raises:
            ValueError: With fewer than two regions.
        """
        if num_regions < 2:
            raise ValueError(
                'masked region modelling needs at least 2 regions an image: '
                'raise num_regions of the view transform'
            )
        device = self.mask_token.device
        low, high = self.mask_ratio
        share = low + (high - low) * torch.rand(num_views, 1, device=device)
        count = (share * num_regions).round().clamp(1, num_regions - 1)
        rank = torch.rand(num_views, num_regions, device=device)
        masked = rank.argsort(dim=1).argsort(dim=1) < count
        return Masking(masked, self.mask_token, self.leak_iou)

    def loss(self, context: TaskContext) -> TaskLoss:
        """Cross-entropy of the masked tokens with the same view's targets."""
        return self.compare(context, context.targets, ~context.unmasked)
