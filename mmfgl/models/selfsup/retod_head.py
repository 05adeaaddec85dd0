"""Head of ReToD: projector, mask token, coordinate layer and losses.

Shape shorthand: B views of the batch (both views of every image), N regions,
D token width, K prototypes.
"""

import math

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.models.losses import target_statistics
from mmfgl.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class ReToDHead(BaseModule):
    """Projector, mask token and losses of region-token distillation.

    A loss that is ``None`` is off: neither it nor what only it needs is
    built or computed.

    Args:
        projector: Config of the projector.
        targets: Config of the teacher's targets.
        loss_distill: Config of the cross-view loss.
        loss_mask: Config of the same-view loss of masked tokens.
        loss_diversity: Config of the loss of the student's mean distribution.
        loss_coord: Config of the loss of encoded offsets from jittered to
            true boxes; it takes ``(pred, target)``.
        loss_giou: Config of a loss of decoded boxes.
        bbox_coder: Config of the coder of those offsets, needed by the two.
        mask_ratio: Least and largest share of tokens masked in an image.
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        projector: dict,
        targets: dict,
        loss_distill: dict | None = None,
        loss_mask: dict | None = None,
        loss_coord: dict | None = None,
        bbox_coder: dict | None = None,
        loss_giou: dict | None = None,
        loss_diversity: dict | None = None,
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
        self.loss_distill = _build(loss_distill)
        self.loss_mask = _build(loss_mask)
        self.loss_diversity = _build(loss_diversity)
        self.loss_coord = _build(loss_coord)
        self.loss_giou = _build(loss_giou)
        width = projector['in_channels']
        if self.tasks & {'distill', 'mask', 'diversity'}:
            self.projector = MODELS.build(projector)
        if self.tasks & {'distill', 'mask'}:
            self.targets = MODELS.build(
                targets,
                default_args=dict(
                    num_prototypes=self.projector.num_prototypes
                ),
            )
        if 'mask' in self.tasks:
            self.mask_token = nn.Parameter(torch.zeros(width))
            nn.init.normal_(self.mask_token, std=0.02)
        if 'coord' in self.tasks:
            if bbox_coder is None:
                raise ValueError('loss_coord and loss_giou need a bbox_coder')
            self.bbox_coder = TASK_UTILS.build(bbox_coder)
            self.coord = nn.Linear(width, self.bbox_coder.encode_size)
            nn.init.normal_(self.coord.weight, std=0.001)
            nn.init.zeros_(self.coord.bias)

    @property
    def tasks(self) -> set[str]:
        """Which of 'distill', 'mask', 'diversity' and 'coord' are on."""
        losses = dict(
            distill=self.loss_distill,
            mask=self.loss_mask,
            diversity=self.loss_diversity,
            coord=self.loss_coord or self.loss_giou,
        )
        return {name for name, loss in losses.items() if loss is not None}

    def unit(self, task: str) -> float:
        """What counts as 1 of a task's loss, to compare it with others.

        Args:
            task: One of :attr:`tasks`.

        Returns:
            Weight times log K for the cross-entropies; the range of the
            GIoU loss for boxes, or the weight of ``loss_coord`` without it; 1
            for the diversity loss, which is not balanced.
        """
        if task in ('distill', 'mask'):
            scale = math.log(self.projector.num_prototypes)
            return getattr(self, f'loss_{task}').loss_weight * scale
        if task == 'diversity':
            return 1.0
        if self.loss_giou is not None:
            return 2 * self.loss_giou.loss_weight
        return self.loss_coord.loss_weight

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
        targets: Tensor | None,
        other_targets: Tensor | None,
        masked: Tensor | None,
    ) -> dict[str, Tensor]:
        """Cross-view loss of whole tokens, same-view loss of masked ones.

        Args:
            student: (B, N, D) encoded tokens of the student.
            targets: (B, N, K) teacher distributions of the same view;
                ``None`` leaves out the same-view loss.
            other_targets: (B, N, K) teacher distributions of the other view;
                ``None`` leaves out the cross-view loss.
            masked: (B, N) bool, or ``None`` if no token was masked.

        Returns:
            ``loss_distill``, ``loss_mask`` and ``loss_diversity``, as far as
            they are on, ``kl_distill`` and ``kl_mask``, their distance from
            their least value over log K, and statistics of the targets.
        """
        logits = self.projector(student)
        losses = {}
        whole = torch.ones_like(logits[..., 0], dtype=torch.bool)
        if masked is not None:
            whole = ~masked
        for name, loss, wanted, chosen in (
            ('distill', self.loss_distill, other_targets, whole),
            ('mask', self.loss_mask, targets, masked),
        ):
            if loss is None or wanted is None:
                continue
            value = loss(logits, wanted, chosen)
            excess = value.detach() - loss.floor(wanted, chosen)
            losses[f'loss_{name}'] = value
            losses[f'kl_{name}'] = excess / self.unit(name)
        if self.loss_diversity is not None:
            losses['loss_diversity'] = self.loss_diversity(logits)
        seen = other_targets if targets is None else targets
        if seen is not None:
            losses.update(target_statistics(seen))
        return losses

    def regress(
        self, embeddings: Tensor, jittered: Tensor, boxes: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the offsets from jittered to true boxes, in fp32.

        Args:
            embeddings: (B, N, D) decoder output of the jittered queries.
            jittered: (B, N, 4) jittered boxes in view pixels.
            boxes: (B, N, 4) true boxes in view pixels.

        Returns:
            ``loss_coord`` and ``loss_giou``, as far as they are on,
            ``coord_iou``, the mean IoU of the predicted boxes with the true
            ones, and ``jitter_iou``, that of the jittered boxes: what a layer
            that has learnt nothing reaches.
        """
        deltas = self.coord(embeddings).float().flatten(0, 1)
        priors = jittered.float().flatten(0, 1)
        truth = boxes.float().flatten(0, 1)
        target = self.bbox_coder.encode(priors, truth)
        predicted = self.bbox_coder.decode(priors, deltas)
        losses = {}
        if self.loss_coord is not None:
            losses['loss_coord'] = self.loss_coord(deltas, target)
        if self.loss_giou is not None:
            losses['loss_giou'] = self.loss_giou(predicted, truth)
        losses['coord_iou'] = _mean_iou(predicted.detach(), truth)
        losses['jitter_iou'] = _mean_iou(priors, truth)
        return losses


def _build(loss: dict | None) -> nn.Module | None:
    """Build a loss unless it is off."""
    return None if loss is None else MODELS.build(loss)


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
