"""Head of ReToD: projector, mask token, coordinate layer and losses.

Shape shorthand: B views of the batch (both views of every image), N regions,
D token width, K prototypes.
"""

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.models.losses import target_statistics
from mmfgl.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class ReToDHead(BaseModule):
    """Projector, mask token and losses of region-token distillation.

    Args:
        projector: Config of the projector.
        targets: Config of the teacher's targets.
        loss_distill: Config of the cross-view loss.
        loss_mask: Config of the same-view loss of masked tokens.
        loss_coord: Config of the loss of encoded offsets from jittered to
            true boxes; it takes ``(pred, target)``.
        loss_giou: Config of a loss of decoded boxes, or ``None``.
        bbox_coder: Config of the coder of those offsets.
        mask_ratio: Least and largest share of tokens masked in an image.
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        projector: dict,
        targets: dict,
        loss_distill: dict,
        loss_mask: dict,
        loss_coord: dict,
        bbox_coder: dict,
        loss_giou: dict | None = None,
        mask_ratio: tuple[float, float] = (0.1, 0.5),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if not 0 < mask_ratio[0] <= mask_ratio[1] < 1:
            raise ValueError(
                'mask_ratio needs 0 < least <= largest < 1, got '
                f'{tuple(mask_ratio)}'
            )
        self.mask_ratio = tuple(mask_ratio)
        self.projector = MODELS.build(projector)
        self.targets = MODELS.build(
            targets,
            default_args=dict(num_prototypes=self.projector.num_prototypes),
        )
        self.loss_distill = MODELS.build(loss_distill)
        self.loss_mask = MODELS.build(loss_mask)
        self.loss_coord = MODELS.build(loss_coord)
        self.loss_giou = MODELS.build(loss_giou) if loss_giou else None
        self.bbox_coder = TASK_UTILS.build(bbox_coder)
        width = projector['in_channels']
        self.mask_token = nn.Parameter(torch.zeros(width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.coord = nn.Linear(width, self.bbox_coder.encode_size)
        nn.init.normal_(self.coord.weight, std=0.001)
        nn.init.zeros_(self.coord.bias)

    def draw_masks(self, num_views: int, num_regions: int) -> Tensor:
        """Choose at random which tokens lose their content.

        One share is drawn for the batch, so that views stay equally long;
        the tokens are drawn for each view. At least one token of a view is
        masked and one is kept.

        Args:
            num_views: Number of views B.
            num_regions: Number of regions N of a view, at least 2.

        Returns:
            (B, N) bool, ``True`` = masked.

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
        share = low + (high - low) * torch.rand((), device=device)
        count = (share * num_regions).round().clamp(1, num_regions - 1)
        rank = torch.rand(num_views, num_regions, device=device)
        return rank.argsort(dim=1).argsort(dim=1) < count

    def mask_content(self, content: Tensor, masked: Tensor) -> Tensor:
        """Replace the content of masked tokens by the mask token.

        Args:
            content: (B, N, D) tokens without position embedding.
            masked: (B, N) bool.

        Returns:
            (B, N, D) tokens.
        """
        token = self.mask_token.to(content.dtype)
        return torch.where(masked.unsqueeze(-1), token, content)

    def distill(
        self,
        student: Tensor,
        targets: Tensor,
        other_targets: Tensor,
        masked: Tensor,
    ) -> dict[str, Tensor]:
        """Cross-view loss of whole tokens, same-view loss of masked ones.

        Args:
            student: (B, N, D) encoded tokens of the student.
            targets: (B, N, K) teacher distributions of the same view.
            other_targets: (B, N, K) teacher distributions of the other view.
            masked: (B, N) bool.

        Returns:
            ``loss_distill``, ``loss_mask`` and statistics of the targets.
        """
        logits = self.projector(student)
        return dict(
            loss_distill=self.loss_distill(logits, other_targets, ~masked),
            loss_mask=self.loss_mask(logits, targets, masked),
            **target_statistics(targets),
        )

    def regress(
        self, embeddings: Tensor, jittered: Tensor, boxes: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the offsets from jittered to true boxes, in fp32.

        Args:
            embeddings: (B, N, D) decoder output of the jittered queries.
            jittered: (B, N, 4) jittered boxes in view pixels.
            boxes: (B, N, 4) true boxes in view pixels.

        Returns:
            ``loss_coord``, ``loss_giou`` if configured, and ``coord_iou``,
            the mean IoU of the predicted boxes with the true ones.
        """
        deltas = self.coord(embeddings).float().flatten(0, 1)
        priors = jittered.float().flatten(0, 1)
        truth = boxes.float().flatten(0, 1)
        target = self.bbox_coder.encode(priors, truth)
        predicted = self.bbox_coder.decode(priors, deltas)
        losses = dict(
            loss_coord=self.loss_coord(deltas, target),
            coord_iou=_mean_iou(predicted.detach(), truth),
        )
        if self.loss_giou is not None:
            losses['loss_giou'] = self.loss_giou(predicted, truth)
        return losses


@torch.no_grad()
def _mean_iou(boxes: Tensor, truth: Tensor) -> Tensor:
    """Mean IoU of boxes (T, 4) with their own true boxes (T, 4)."""
    low = torch.maximum(boxes[:, :2], truth[:, :2])
    high = torch.minimum(boxes[:, 2:], truth[:, 2:])
    inter = (high - low).clamp(min=0).prod(dim=1)
    areas = [
        (b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) for b in (boxes, truth)
    ]
    iou = (inter / (areas[0] + areas[1] - inter).clamp(min=1e-9)).mean()
    all_reduce(iou, op='mean')
    return iou
