"""RoI head that reads candidates through an IoU attention mask.

Shape shorthand: B images, R RoIs of the batch, N RoIs of one image, Q
important targets of one image, C channels or classes, D token width, S cells
a side.
"""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import ScoreHLRSampler
from mmdet.models.utils import unpack_gt_instances
from mmdet.structures.bbox import bbox2roi
from torch import Tensor

from mmfgl.models.layers import (
    finite_boxes,
    iou_attention_mask,
    normalise_boxes,
    readable_levels,
)
from mmfgl.models.roi_heads.roi_context import RoIContext, batch_rois
from mmfgl.models.task_modules.batched_sampling import sample_rois
from mmfgl.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class FGLRoIHead(StandardRoIHead):
    """FGL RoI head: tokens, candidate selection, region Transformer.

    RoI features -> tokenizer -> (+ position embedding) -> encoder over the
    candidates of an image, through the IoU attention mask -> decoder, queries
    = important targets, memory = candidates -> box head.

    Predictions keep the parents' contract of one row a RoI: RoIs that are
    not important targets get background with probability 1.

    Args:
        bbox_roi_extractor: Config of a :class:`FGLRoIExtractor`.
        tokenizer: Config of a :class:`RegionTokenizer`.
        transformer: Config of the region Transformer.
        attention: Band of the IoU attention mask: ``dict(low=, high=)``.
        selector: Config of the candidate selector. Defaults to
            :class:`CandidateSelector` with its defaults.
        bbox_head: Config of a :class:`FGLBBoxHead`.
        **kwargs: Arguments of :class:`mmdet.models.StandardRoIHead`.

    Raises:
        ValueError: If a shared head is configured, which has no place here.
    """

    def __init__(
        self,
        bbox_roi_extractor: dict,
        bbox_head: dict,
        tokenizer: dict,
        transformer: dict,
        attention: dict | None = None,
        selector: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            **kwargs,
        )
        if self.with_shared_head:
            raise ValueError(
                'FGLRoIHead has a tokenizer in place of a shared head: leave '
                'shared_head out'
            )
        if isinstance(getattr(self, 'bbox_sampler', None), ScoreHLRSampler):
            raise ValueError(
                'ScoreHLRSampler reads scores and boxes as BBoxHead gives '
                'them, which those of FGLRoIHead are not: take another sampler'
            )
        self.tokenizer = MODELS.build(tokenizer)
        self.transformer = MODELS.build(transformer)
        self.attention = dict(attention or {})
        self.selector = TASK_UTILS.build(
            selector or dict(type='mmfgl.CandidateSelector')
        )

    def region_tokens(
        self,
        feats: Sequence[Tensor],
        rois: Tensor,
        level_shift: int | str = 0,
    ) -> Tensor:
        """Tokens of RoIs, without position embedding.

        Args:
            feats: Pyramid levels, each (B, C, H_k, W_k).
            rois: (R, 5) rows (image index, x1, y1, x2, y2), network-input
                pixels.
            level_shift: See :meth:`FGLRoIExtractor.forward`.

        Returns:
            (R, D) tokens.
        """
        extractor, tokenizer = self.bbox_roi_extractor, self.tokenizer
        feats = feats[: extractor.num_inputs]
        squeezed = extractor(
            feats, rois, level_shift=level_shift, squeeze=tokenizer.squeeze
        )
        return tokenizer.read(squeezed)

    def attention_masks(
        self, rpn_results_list: list, batch_img_metas: list[dict]
    ) -> list[Tensor]:
        """IoU attention masks of proposals, before any selection.

        IoUs do not change under flips and axis-aligned scaling, so test-time
        augmentation computes them once and hands them to every view as the
        field ``attention_mask`` of its proposals.

        Args:
            rpn_results_list: Proposals (``bboxes`` in network-input pixels).
            batch_img_metas: Meta information of the images (part of the
                interface, not needed here).

        Returns:
            One (N, N) bool mask an image.
        """
        return [
            iou_attention_mask(results.bboxes, **self.attention)
            for results in rpn_results_list
        ]

    def loss(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: list,
        batch_data_samples: list,
    ) -> dict:
        """Losses of the head; see :class:`StandardRoIHead`.

        Args:
            x: Pyramid levels, each (B, C, H_k, W_k).
            rpn_results_list: Proposals of each image, with ``bboxes`` and
                optionally ``scores`` (objectness).
            batch_data_samples: Data samples with ``gt_instances``.
        """
        truths, ignored, _ = unpack_gt_instances(batch_data_samples)
        gt_added = getattr(self.bbox_sampler, 'add_gt_as_proposals', False)
        proposals = [
            finite_boxes(results.bboxes) for results in rpn_results_list
        ]
        sampling_results = sample_rois(
            *(self.bbox_assigner, self.bbox_sampler),
            *(proposals, truths, ignored, x),
        )
        contexts = RoIContext.of_sampled(
            sampling_results,
            [sample.metainfo['img_shape'] for sample in batch_data_samples],
            [results.get('scores') for results in rpn_results_list],
            gt_added,
        )
        rois = batch_rois([context.boxes for context in contexts])
        results = self._bbox_forward(x, rois, contexts, training=True)
        losses = self.bbox_head.loss_and_target(
            results['cls_score'],
            results['bbox_pred'],
            rois,
            sampling_results,
            self.train_cfg,
        )['loss_bbox']
        if self.with_mask:
            mask_results = self.mask_loss(
                x, sampling_results, results['bbox_feats'], truths
            )
            losses.update(mask_results['loss_mask'])
        return losses

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: list,
        rcnn_test_cfg: dict | None,
        rescale: bool = False,
        level_shift: int | str = 0,
    ) -> list:
        """Predict the instances of each image; see :class:`StandardRoIHead`.

        Args:
            x: Pyramid levels.
            batch_img_metas: Meta information of each image.
            rpn_results_list: Proposals; optional fields ``scores`` and
                ``attention_mask``.
            rcnn_test_cfg: Test config; ``None`` returns one raw row a
                proposal.
            rescale: Return boxes in original pixels.
            level_shift: See :meth:`FGLRoIExtractor.forward`.
        """
        boxes = [finite_boxes(results.bboxes) for results in rpn_results_list]
        rois = bbox2roi(boxes)
        if len(rois) == 0:
            return super().predict_bbox(
                x, batch_img_metas, rpn_results_list, rcnn_test_cfg, rescale
            )
        contexts = RoIContext.of_proposals(
            boxes, batch_img_metas, rpn_results_list
        )
        outputs = self._bbox_forward(
            x, rois, contexts, level_shift, training=False
        )
        counts = [len(results) for results in rpn_results_list]
        return self.bbox_head.predict_by_feat(
            rois.split(counts),
            outputs['cls_score'].split(counts),
            outputs['bbox_pred'].split(counts),
            batch_img_metas,
            rcnn_test_cfg=rcnn_test_cfg,
            rescale=rescale,
        )

    def _bbox_forward(
        self,
        x: tuple[Tensor, ...],
        rois: Tensor,
        contexts: Sequence[RoIContext] | None = None,
        level_shift: int | str = 0,
        training: bool | None = None,
    ) -> dict:
        """Forward of the box branch, for training, test and tensor mode.

        Args:
            x: Pyramid levels.
            rois: (R, 5) RoIs, sorted by image.
            contexts: RoI context of each image, with the same RoIs. By
                default all that is known is that images fill the features.
            level_shift: See :meth:`FGLRoIExtractor.forward`.
            training: Whether the losses follow, which a frozen head in
                evaluation mode has too; by default the mode tells.

        Returns:
            ``cls_score`` (R, C + 2), ``bbox_pred`` and ``bbox_feats`` (the
            RoI features, (R, C, S, S), ``None`` unless a mask head shares
            them), one row a RoI.
        """
        if training is None:
            training = self.training
        if contexts is None:
            stride = self.bbox_roi_extractor.featmap_strides[0]
            contexts = RoIContext.of_features(x[0], stride, rois)
        roi_feats = None
        if self.with_mask and self.share_roi_extractor:
            levels = x[: self.bbox_roi_extractor.num_inputs]
            roi_feats = self.bbox_roi_extractor(
                levels, rois, level_shift=level_shift
            )
            content = self.tokenizer(roi_feats)
        else:
            content = self.region_tokens(x, rois, level_shift)
        counts = [len(context.boxes) for context in contexts]
        # in training every RoI is a target, and images go together
        whole = RoIContext.stack(contexts) if training else None
        parts = contexts if whole is None else [whole]
        frames = [
            normalise_boxes(part.boxes, part.img_shape).reshape(-1, 4)
            for part in parts
        ]
        pos_embed = self.tokenizer.embed_position(torch.cat(frames))
        tokens = [content + pos_embed]
        if len(counts) > 1:  # a split is traced with the length of its parts
            tokens = tokens[0].split(counts)
        read = tokens if whole is None else [torch.stack(list(tokens))]
        masks, targets = [], []
        for part, token in zip(parts, read, strict=True):
            selection = self.selector.select(
                part.boxes,
                part.img_shape,
                part.scores,
                token.detach(),
                training=training,
            )
            masks.append(part.mask(selection.context, self.attention))
            targets.append(selection.targets)
        if whole is not None:
            masks, targets = list(masks[0]), list(targets[0])
        boxes = [context.boxes for context in contexts]
        embeddings = self.transformer(tokens, masks, targets, boxes)
        cls_score, bbox_pred = self.bbox_head(torch.cat(embeddings))
        if len(cls_score) < len(rois):
            cls_score, bbox_pred = self.bbox_head.fill_background(
                cls_score, bbox_pred, targets, counts
            )
        return dict(
            cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=roi_feats
        )

    def _mask_forward(self, x: tuple[Tensor, ...], rois=None, **kwargs):
        """Forward of the mask branch, whose extractor knows fp32 maps only."""
        return super()._mask_forward(readable_levels(x), rois, **kwargs)
