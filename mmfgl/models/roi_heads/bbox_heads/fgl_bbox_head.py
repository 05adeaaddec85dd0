"""Linear box head with a box-quality score.

Shape shorthand: R RoIs, C classes, D token width.
"""

import itertools
from collections.abc import Sequence
from types import SimpleNamespace

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules import SamplingResult
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.models.layers import pairwise_iou, vote_neighbours
from mmfgl.models.roi_heads.roi_context import interleave
from mmfgl.registry import MODELS


@MODELS.register_module()
class FGLBBoxHead(BBoxHead):
    """Linear layers from a target embedding to classes, box and quality.

    The quality is the predicted IoU of the predicted box with its object
    (IoU-Net, arXiv 1807.11590), trained on positive RoIs: one logit a RoI,
    appended to the class logits as their last column, so that the parents'
    code paths carry it along unchanged. The final score of class c is
    ``p_c ** (1 - a) * quality ** a`` with ``a = quality_weight``.

    Args:
        in_channels: Width D of the target embeddings.
        quality_weight: Exponent a in [0, 1); 0 scores by class alone.
        voting_iou: At test time a box that NMS keeps moves to the mean of
            the candidates' boxes of its class with at least this IoU,
            weighted by their scores (box voting, arXiv 1505.01749). ``None``
            leaves it where it is.
        init_cfg: Initialisation config of MMEngine.
        **kwargs: Arguments of :class:`mmdet.models.BBoxHead`.
    """

    def __init__(
        self,
        in_channels: int = 256,
        quality_weight: float = 0.3,
        voting_iou: float | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        if not 0 <= quality_weight < 1:
            raise ValueError(
                f'quality_weight must lie in [0, 1), got {quality_weight}'
            )
        if voting_iou is not None and not 0 < voting_iou <= 1:
            raise ValueError(
                f'voting_iou must lie in (0, 1] or be None, got {voting_iou}'
            )
        super().__init__(
            with_avg_pool=False,
            roi_feat_size=1,
            in_channels=in_channels,
            init_cfg=init_cfg,
            **kwargs,
        )
        if self.custom_cls_channels:
            raise ValueError(
                f'{type(self.loss_cls).__name__} brings its own class '
                'channels, which FGLBBoxHead does not support: use a softmax '
                'loss such as CrossEntropyLoss'
            )
        if not (self.with_cls and self.with_reg):
            raise ValueError('FGLBBoxHead needs both with_cls and with_reg')
        self.quality_weight = quality_weight
        self.voting_iou = voting_iou
        self.fc_quality = nn.Linear(in_channels, 1)
        self.loss_quality = MODELS.build(
            dict(type='mmdet.CrossEntropyLoss', use_sigmoid=True)
        )
        if init_cfg is None:
            self.init_cfg.append(
                dict(type='Normal', std=0.01, override=dict(name='fc_quality'))
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predict classes, boxes and quality.

        Args:
            x: (R, D) target embeddings.

        Returns:
            (R, C + 2) logits (C classes, background, quality), and (R, 4) or
            (R, 4 C) box deltas.
        """
        cls_score, bbox_pred = super().forward(x)
        return torch.cat([cls_score, self.fc_quality(x)], dim=1), bbox_pred

    def fill_background(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor,
        targets: Sequence[Tensor],
        counts: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Rows of all R RoIs from those of the important targets.

        Args:
            cls_score: (Q, C + 2) logits of the targets of all images.
            bbox_pred: (Q, 4) or (Q, 4 C) deltas of theirs.
            targets: Rows of the targets among the RoIs of each image.
            counts: Number of RoIs of each image, R in all.

        Returns:
            (R, C + 2) logits and (R, 4) or (R, 4 C) deltas. The others stay
            where they are and are certainly background: the softmax of every
            class is exactly 0.
        """
        starts = itertools.accumulate(counts, initial=0)
        pairs = zip(targets, starts, strict=False)
        rows = torch.cat([own + start for own, start in pairs])
        shape = sum(counts), self.num_classes + 2
        logits = cls_score.new_full(shape, -1e4)
        logits[:, self.num_classes] = 0
        still = bbox_pred.new_zeros(sum(counts), bbox_pred.shape[1])
        return (
            logits.index_copy(0, rows, cls_score),
            still.index_copy(0, rows, bbox_pred),
        )

    def get_targets(
        self,
        sampling_results: list[SamplingResult],
        rcnn_train_cfg: dict,
        concat: bool = True,
    ) -> tuple:
        """Targets of the sampled RoIs, computed for all images at once.

        Args:
            sampling_results: Sampling result of each image.
            rcnn_train_cfg: Training config of the RoI head.
            concat: Whether the images' targets are put together.

        Returns:
            (R,) labels and their weights, (R, 4) box targets and theirs.
        """
        if not concat:
            return super().get_targets(
                sampling_results, rcnn_train_cfg, concat
            )
        fields = ('pos_priors', 'neg_priors', 'pos_gt_bboxes', 'pos_gt_labels')
        every = SimpleNamespace(
            **{
                name: torch.cat([getattr(r, name) for r in sampling_results])
                for name in fields
            }
        )
        targets = super().get_targets([every], rcnn_train_cfg)
        # all positive RoIs, then all negative ones: back to image by image
        num_pos = [len(result.pos_priors) for result in sampling_results]
        num_neg = [len(result.neg_priors) for result in sampling_results]
        rows = torch.arange(sum(num_pos) + sum(num_neg))
        first, second = rows.split([sum(num_pos), sum(num_neg)])
        rows = interleave(first.split(num_pos), second.split(num_neg))
        rows = rows.to(every.pos_priors.device, non_blocking=True)
        return tuple(target[rows] for target in targets)

    def loss(
        self,
        cls_score: Tensor,
        bbox_pred: Tensor | None,
        rois: Tensor,
        labels: Tensor,
        label_weights: Tensor,
        bbox_targets: Tensor,
        bbox_weights: Tensor,
        reduction_override: str | None = None,
    ) -> dict:
        """Losses of :class:`BBoxHead` and ``loss_quality``, in fp32.

        Args:
            cls_score: (R, C + 2) logits of :meth:`forward`.
            bbox_pred: (R, 4) or (R, 4 C) box deltas; ``None`` for the loss of
                the classes alone, by which some samplers choose.
            rois: (R, 5) RoIs in network-input pixels.
            labels: (R,) class indices, C for background.
            label_weights: (R,) weights.
            bbox_targets: (R, 4) encoded (or, with ``reg_decoded_bbox``,
                absolute) boxes of the assigned objects.
            bbox_weights: (R, 4) weights.
            reduction_override: Reduction that replaces the losses' own.
        """
        cls_score = cls_score.float()
        class_logits, quality = cls_score[:, :-1], cls_score[:, -1:]
        if bbox_pred is None:  # before what all ranks must take part in
            return super().loss(
                class_logits,
                None,
                rois,
                labels,
                label_weights,
                bbox_targets,
                bbox_weights,
                reduction_override=reduction_override,
            )
        bbox_pred = bbox_pred.float()
        # deltas to or from a box without area are not finite: no box target
        finite = bbox_targets.isfinite().all(dim=1, keepdim=True)
        bbox_targets = bbox_targets.masked_fill(~finite, 0)
        losses = super().loss(
            class_logits,
            bbox_pred,
            rois,
            labels,
            label_weights,
            bbox_targets,
            bbox_weights * finite,
            reduction_override=reduction_override,
        )
        # every output takes part in the graph, also without any RoI, so that
        # find_unused_parameters=False holds
        losses.setdefault('loss_cls', class_logits.sum() * 0)
        positive = (labels >= 0) & (labels < self.num_classes)
        # once: a boolean index makes the host wait for a GPU each time
        positive = positive.nonzero().squeeze(1)  # (P,)
        target = self._quality_targets(
            bbox_pred[positive],
            rois[positive, 1:],
            labels[positive],
            bbox_targets[positive],
        )
        # filled on the device: a copy from the host would wait
        count = torch.full((), float(len(target)), device=target.device)
        losses['loss_quality'] = self.loss_quality(
            quality[positive],
            target,
            # not 0: a sum over no rows may be divided by it
            avg_factor=reduce_mean(count).clamp(min=1e-6),
            reduction_override=reduction_override,
        )
        return losses

    @torch.no_grad()
    def _quality_targets(
        self,
        bbox_pred: Tensor,
        priors: Tensor,
        labels: Tensor,
        bbox_targets: Tensor,
    ) -> Tensor:
        """(P, 1) IoUs of the P positive RoIs' predicted boxes with objects."""
        if not self.reg_class_agnostic:
            bbox_pred = bbox_pred.unflatten(1, (self.num_classes, -1))
            rows = torch.arange(len(labels), device=labels.device)
            bbox_pred = bbox_pred[rows, labels]
        boxes = self.bbox_coder.decode(priors, bbox_pred)
        if not self.reg_decoded_bbox:
            bbox_targets = self.bbox_coder.decode(priors, bbox_targets)
        return pairwise_iou(boxes[:, None], bbox_targets[:, None])[:, 0]

    def _predict_by_feat_single(
        self,
        roi: Tensor,
        cls_score: Tensor,
        bbox_pred: Tensor,
        img_meta: dict,
        rescale: bool = False,
        rcnn_test_cfg: dict | None = None,
    ) -> InstanceData:
        """Boxes and mixed scores of one image; see :class:`BBoxHead`.

        With ``rcnn_test_cfg=None`` one row a RoI, (R, 4 or 4 C) boxes and
        (R, C + 1) scores, without NMS.
        """
        class_logits = cls_score[:, :-1].float()
        quality = cls_score[:, -1:].float().sigmoid()
        if len(roi) == 0:
            return super()._predict_by_feat_single(
                roi, class_logits, bbox_pred, img_meta, rescale, rcnn_test_cfg
            )
        results = super()._predict_by_feat_single(
            roi, class_logits, bbox_pred.float(), img_meta, rescale, None
        )
        results.scores = self.mix_quality(results.scores, quality)
        if rcnn_test_cfg is None:
            return results
        boxes, labels = multiclass_nms(
            results.bboxes,
            results.scores,
            rcnn_test_cfg.score_thr,
            rcnn_test_cfg.nms,
            rcnn_test_cfg.max_per_img,
        )
        found = boxes[:, :4]
        if self.voting_iou is not None:
            found = vote_neighbours(
                found, labels, results.bboxes, results.scores, self.voting_iou
            )
        return InstanceData(bboxes=found, scores=boxes[:, 4], labels=labels)

    def mix_quality(self, scores: Tensor, quality: Tensor) -> Tensor:
        """Mix class probabilities with the quality score.

        Args:
            scores: (R, C + 1) softmax probabilities.
            quality: (R, 1) predicted IoU in [0, 1].

        Returns:
            (R, C + 1) scores; the background column is left as it is.
        """
        a = self.quality_weight
        mixed = scores[:, :-1].pow(1 - a) * quality.pow(a)
        return torch.cat([mixed, scores[:, -1:]], dim=1)
