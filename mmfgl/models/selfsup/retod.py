"""ReToD: Region-Token Distillation.

Shape shorthand: B images, V views (2), N regions an image, D token width,
K prototypes. Views are stacked view by view: row ``v * B + b``.
"""

import torch
from mmengine.config import ConfigDict
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.models.layers.attention_mask import close_leaks, iou_attention_mask
from mmfgl.models.roi_heads import FGLRoIHead
from mmfgl.models.selfsup.objectness import (
    build_roi_head,
    build_rpn_head,
    objectness_losses,
    objectness_unit,
)
from mmfgl.models.selfsup.region_encoding import stack_views, tokenize_regions
from mmfgl.models.selfsup.task_losses import balance_losses
from mmfgl.models.selfsup.teachers.ema_teacher import EMATeacher
from mmfgl.registry import MODELS


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

    With ``rpn_head`` it also trains the detector's own RPN and, where
    ``roi_head`` has a ``bbox_head``, the detector's own box head, on pseudo
    ground truth that comes with the data (*objectness*): the detector then
    starts with its localisation learnt (cf. AlignDet, arXiv 2307.11077).

    ``backbone``, ``neck``, ``rpn_head`` and ``roi_head`` carry the detector's
    names and load into it as they are; of a box head for other classes all
    but its class layer. The teacher averages them all, so that an exported
    head fits the exported backbone.

    Losses are switched off by the configs that they are not given: see
    :class:`ReToDHead`.

    Args:
        backbone: Config of the backbone.
        neck: Config of the pyramid.
        roi_head: Config of :class:`FGLRoIHead`, with a ``bbox_head`` only
            where ``objectness`` trains it, or of :class:`PlainRegionHead`.
        head: Config of :class:`ReToDHead`.
        rpn_head: Config of mmdet's ``RPNHead``, or ``None`` for no objectness
            training.
        objectness: ``dict(train_cfg=dict(rpn=..., rpn_proposal=...,
            rcnn=...))``: the detector's training config.
        balancer: Config of the balancer of the tasks 'distill', 'mask',
            'coord' (with GIoU), 'objectness' and 'diversity', as far as they
            are on, e.g. :class:`TaskAdaptiveLoss`. Defaults to
            :class:`FixedBalancer`, the plain sum.
        symmetric: Train the student on both views (``True``) or on the first
            alone, which costs less a step.
        leak_iou: A masked token may not attend an unmasked one that overlaps
            it more than this.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: Initialisation config of MMEngine.

    Raises:
        ValueError: If ``rpn_head``, ``objectness`` and ``bbox_head`` do not
            fit together, or no loss is on.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        roi_head: dict,
        head: dict,
        rpn_head: dict | None = None,
        objectness: dict | None = None,
        balancer: dict | None = None,
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
        if (rpn_head is None) != (objectness is None):
            raise ValueError(
                'rpn_head and objectness belong together: give both, or '
                'neither to train without pseudo ground truth'
            )
        train_cfg = None
        if rpn_head is not None:
            train_cfg = ConfigDict(objectness)['train_cfg']
            self.rpn_head = build_rpn_head(rpn_head, train_cfg)
        self.roi_head = build_roi_head(roi_head, train_cfg)
        if (
            rpn_head is None
            and isinstance(self.roi_head, FGLRoIHead)
            and self.roi_head.with_bbox
        ):
            raise ValueError(
                'nothing would train roi_head.bbox_head: give rpn_head and '
                'objectness, or leave bbox_head out'
            )
        self.symmetric = symmetric
        self.leak_iou = leak_iou
        self.tasks = set(self.head.tasks)
        if rpn_head is not None:
            self.tasks.add('objectness')
        if not self.tasks:
            raise ValueError('all losses of ReToD are off: configure one')
        self.balancer = MODELS.build(
            balancer or dict(type='mmfgl.FixedBalancer'),
            default_args=dict(tasks=sorted(self.tasks)),
        )
        # the tasks of the current step
        self.running = set(self.tasks)
        self._has_idle_parts = not (
            'coord' in self.tasks
            and self.tasks & {'distill', 'mask', 'diversity'}
        )
        averaged = ['backbone', 'neck', 'roi_head']
        if rpn_head is not None:
            averaged.append('rpn_head')
        if hasattr(self.head, 'projector'):
            averaged.append('head.projector')
        self.teacher = EMATeacher(self, averaged)
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
        views = torch.cat(inputs)  # (V B, 3, H, W)
        rows = len(views) if self.symmetric else len(data_samples)
        self.running = set(self.balancer.draw())
        feats = self.neck(self.backbone(views[:rows]))
        losses = {}
        if self.running & self.head.tasks:
            losses.update(self._region_losses(feats, views, data_samples))
        if 'objectness' in self.running:
            with self.balancer.measure('objectness'):
                losses.update(
                    objectness_losses(
                        self.rpn_head,
                        self.roi_head,
                        feats,
                        data_samples,
                        range(rows // len(data_samples)),
                        tuple(views.shape[-2:]),
                    )
                )
        losses = balance_losses(losses, self.balancer, self._unit)
        if self._has_idle_parts or self.running != self.tasks:
            self._keep_in_graph(losses)
        return losses

    def _unit(self, task: str) -> float:
        """What counts as 1 of a task's loss."""
        if task == 'objectness':
            return objectness_unit(self.rpn_head, self.roi_head)
        return self.head.unit(task)

    def _keep_in_graph(self, losses: dict[str, Tensor]) -> None:
        """Give parts that no loss has read a gradient of zero, in place.

        Distributed training waits for the gradient of every parameter.
        """
        parts = [self.roi_head, self.head]
        if 'objectness' in self.tasks:
            parts.append(self.rpn_head)
        params = [p for part in parts for p in part.parameters()]
        zero = sum(p.sum() for p in params if p.requires_grad) * 0
        name = next(key for key in losses if 'loss' in key)
        losses[name] = losses[name] + zero

    def _region_losses(
        self,
        feats: tuple[Tensor, ...],
        views: Tensor,
        data_samples: list[RegionDataSample],
    ) -> dict[str, Tensor]:
        """Losses of the region tokens: all but objectness.

        Args:
            feats: The student's pyramid of the views it is trained on.
            views: (V B, 3, H, W) all views.
            data_samples: Regions of the B images.

        Returns:
            Losses and statistics.
        """
        batch, rows = len(data_samples), slice(len(feats[0]))
        boxes = stack_views([s.boxes for s in data_samples])  # (V B, N, 4)
        jittered = stack_views([s.jittered for s in data_samples])
        tasks, memory, targets = self.running, None, None
        with self.balancer.measure(*sorted(tasks & self.head.tasks)):
            content, encoded, masked = self._study(
                feats, jittered[rows], views.shape[-2:]
            )
        # own-view targets serve the masked tokens alone
        first = 0 if self.symmetric or 'mask' in tasks else batch
        taught = sorted(tasks & {'distill', 'mask', 'coord'})
        if taught:
            with self.balancer.measure(*taught):
                memory, targets = self._teach(views[first:], boxes[first:])
        # the other view of row v * B + b is row (1 - v) * B + b
        shift = 0 if first else batch
        other_memory, other_targets = (
            None if x is None else x.roll(shift, 0)[rows]
            for x in (memory, targets)
        )
        losses = {}
        if encoded is not None:
            losses.update(
                self.head.distill(
                    encoded,
                    targets[rows] if 'mask' in tasks else None,
                    other_targets if 'distill' in tasks else None,
                    masked,
                )
            )
        if 'coord' in tasks:
            with self.balancer.measure('coord'):
                mask = iou_attention_mask(
                    jittered[rows], boxes[rows], **self.roi_head.attention
                )
                embeddings = self.roi_head.transformer.decode(
                    content,
                    other_memory,
                    mask,
                    # a geometry bias must not see the exact boxes: their
                    # place beside the jittered ones is the answer
                    jittered[rows],
                    jittered[rows],
                )
                losses.update(
                    self.head.regress(embeddings, jittered[rows], boxes[rows])
                )
        return losses

    @torch.no_grad()
    def _teach(
        self, views: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Teacher pass over exact boxes.

        Args:
            views: (B, 3, H, W) images.
            boxes: (B, N, 4) boxes in view pixels.

        Returns:
            - (B, N, D) encoded tokens.
            - (B, N, K) targets, or ``None`` if no loss needs them.
        """
        feats = self.teacher.neck(self.teacher.backbone(views))
        roi_head = self.teacher.roi_head
        tokens, places = tokenize_regions(
            roi_head, feats, boxes, views.shape[-2:]
        )
        mask = iou_attention_mask(boxes, **roi_head.attention)
        memory = roi_head.transformer.encode(tokens + places, mask, boxes)
        if not self.running & {'distill', 'mask'}:
            return memory, None
        return memory, self.head.targets(self.teacher.projector(memory))

    def _study(
        self,
        feats: tuple[Tensor, ...],
        boxes: Tensor,
        img_shape: tuple[int, int],
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Student pass over jittered boxes.

        Args:
            feats: Pyramid levels of B views.
            boxes: (B, N, 4) boxes in view pixels.
            img_shape: (height, width) of the views.

        Returns:
            - (B, N, D) whole tokens with position, the decoder's queries.
            - (B, N, D) encoded tokens, some of them masked before, or
              ``None`` if no loss needs them.
            - (B, N) bool, which, or ``None`` without masks.
        """
        tokens, places = tokenize_regions(
            self.roi_head, feats, boxes, img_shape
        )
        whole, masked = tokens + places, None
        if not self.running & {'distill', 'mask', 'diversity'}:
            return whole, None, None
        mask = iou_attention_mask(boxes, **self.roi_head.attention)
        if 'mask' in self.running:
            masked = self.head.draw_masks(*boxes.shape[:2])
            depth = len(self.roi_head.transformer.encoder)
            mask = close_leaks(
                mask, boxes, masked, self.leak_iou, num_layers=depth
            )
            tokens = self.head.mask_content(tokens, masked)
        encoded = self.roi_head.transformer.encode(
            tokens + places, mask, boxes
        )
        return whole, encoded, masked
