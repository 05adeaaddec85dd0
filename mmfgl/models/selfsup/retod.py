"""ReToD: Region-Token Distillation.

Shape shorthand: B images, V views (2), N regions an image, D token width,
K prototypes. Views are stacked view by view: row ``v * B + b``.
"""

import torch
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor, nn

from mmfgl.registry import MODELS
from mmfgl.structures import (
    RegionDataSample,
    close_leaks,
    iou_attention_mask,
    normalise_boxes,
)

from .ema_teacher import EMATeacher


@MODELS.register_module()
class ReToD(BaseSelfSupervisor):
    """Self-supervised pretraining of the modules an FGL detector uses.

    Two views of an image hold the same N regions. The student pools them at
    jittered boxes, loses the content of a random share of its tokens and
    encodes them through the IoU attention mask; the EMA teacher encodes the
    exact regions. The student then predicts

    - the teacher's distribution over prototypes of the same region in the
      other view (*distill*), and of masked regions in the same view (*mask*;
      iBOT, arXiv 2111.07832, on regions in place of patches);
    - with the decoder, the offset from each jittered box to the true box,
      reading the other view's tokens (*coord*; after UP-DETR, arXiv
      2011.09094).

    ``backbone``, ``neck`` and ``roi_head`` carry the detector's names and
    load into it as they are.

    Args:
        backbone: Config of the backbone.
        neck: Config of the pyramid.
        roi_head: Config of :class:`FGLRoIHead` without ``bbox_head``.
        head: Config of :class:`ReToDHead`.
        symmetric: Train the student on both views (``True``) or on the first
            alone, which costs less a step.
        leak_iou: A masked token may not attend an unmasked one that overlaps
            it more than this.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        roi_head: dict,
        head: dict,
        symmetric: bool = True,
        leak_iou: float = 0.5,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            head=head,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.roi_head = MODELS.build(roi_head)
        self.symmetric = symmetric
        self.leak_iou = leak_iou
        self.teacher = EMATeacher(
            self, ['backbone', 'neck', 'roi_head', 'head.projector']
        )
        # set by the hook that updates the teacher
        self.teacher_is_driven = False

    def extract_feat(self, inputs: Tensor | list[Tensor]) -> tuple[Tensor]:
        """Pyramid features of the student.

        Args:
            inputs: (B, 3, H, W) images, or a list of views, of which the
                first is taken.

        Returns:
            Pyramid levels, each (B, C, H_l, W_l).
        """
        if isinstance(inputs, list):
            inputs = inputs[0]
        return self.neck(self.backbone(inputs))

    def update_teacher(self, momentum: float) -> None:
        """Move the teacher towards the student; call it once a step.

        Args:
            momentum: Share of the teacher's weights that is kept.
        """
        self.teacher.update(self, momentum)

    def loss(
        self, inputs: list[Tensor], data_samples: list[RegionDataSample]
    ) -> dict[str, Tensor]:
        """Losses of a batch of images in two views.

        Args:
            inputs: V tensors (B, 3, H, W), one a view.
            data_samples: Regions of the B images.

        Returns:
            Losses (names with 'loss') and statistics to log.

        Raises:
            RuntimeError: In training, if nothing updates the teacher.
        """
        if self.training and not self.teacher_is_driven:
            raise RuntimeError(
                "nothing updates ReToD's teacher: add dict(type='mmfgl."
                "TeacherHook') to custom_hooks, or, in your own training "
                'loop, set model.teacher_is_driven = True and call '
                'model.update_teacher(momentum) after every optimizer step'
            )
        self.teacher.start(self)
        batch, views = len(data_samples), torch.cat(inputs)  # (V B, 3, H, W)
        boxes = _stack_views([s.boxes for s in data_samples])  # (V B, N, 4)
        jittered = _stack_views([s.jittered for s in data_samples])
        memory, targets = self._teach(views, boxes)
        # the other view of row v * B + b is row (1 - v) * B + b
        other_memory, other_targets = (
            memory.roll(batch, 0),
            targets.roll(batch, 0),
        )
        rows = slice(None) if self.symmetric else slice(batch)
        content, encoded, masked = self._study(views[rows], jittered[rows])
        losses = self.head.distill(
            encoded, targets[rows], other_targets[rows], masked
        )
        embeddings = self.roi_head.transformer.decode(
            content,
            other_memory[rows],
            iou_attention_mask(
                jittered[rows], boxes[rows], **self.roi_head.attention
            ),
        )
        losses.update(
            self.head.regress(embeddings, jittered[rows], boxes[rows])
        )
        return losses

    @torch.no_grad()
    def _teach(self, views: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher pass: (V B, N, D) encoded tokens, (V B, N, K) targets."""
        tokens, places = _tokenize(self.teacher, views, boxes)
        roi_head = self.teacher.roi_head
        mask = iou_attention_mask(boxes, **roi_head.attention)
        memory = roi_head.transformer.encode(tokens + places, mask)
        return memory, self.head.targets(self.teacher.projector(memory))

    def _study(
        self, views: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Student pass over jittered boxes.

        Returns:
            - (B, N, D) whole tokens with position, the decoder's queries.
            - (B, N, D) encoded tokens, some of them masked before.
            - (B, N) bool, which.
        """
        tokens, places = _tokenize(self, views, boxes)
        masked = self.head.draw_masks(*boxes.shape[:2])
        mask = iou_attention_mask(boxes, **self.roi_head.attention)
        mask = close_leaks(mask, boxes, masked, self.leak_iou)
        encoded = self.roi_head.transformer.encode(
            self.head.mask_content(tokens, masked) + places, mask
        )
        return tokens + places, encoded, masked


def _tokenize(
    branch: nn.Module, views: Tensor, boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """Content tokens and position embeddings of the regions of views.

    Args:
        branch: Student or teacher, with ``backbone``, ``neck``, ``roi_head``.
        views: (B, 3, H, W) images.
        boxes: (B, N, 4) boxes in view pixels.

    Returns:
        Two (B, N, D) tensors.
    """
    num_views, num_regions = boxes.shape[:2]
    feats = branch.neck(branch.backbone(views))
    index = torch.arange(num_views, device=boxes.device, dtype=boxes.dtype)
    index = index.repeat_interleave(num_regions).unsqueeze(1)
    rois = torch.cat([index, boxes.flatten(0, 1)], dim=1)  # (B N, 5)
    tokens = branch.roi_head.region_tokens(feats, rois)
    places = branch.roi_head.tokenizer.embed_position(
        normalise_boxes(boxes, views.shape[-2:])
    )
    return tokens.view(num_views, num_regions, -1), places


def _stack_views(boxes: list[Tensor]) -> Tensor:
    """B tensors (V, N, 4) -> (V B, N, 4), view by view."""
    return torch.stack(boxes, dim=1).flatten(0, 1)
