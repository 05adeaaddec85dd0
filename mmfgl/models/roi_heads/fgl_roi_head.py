"""RoI head that reads candidates through an IoU attention mask.

Shape shorthand: B images, R RoIs of the batch, N RoIs of one image, Q
important targets of one image, D token width.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmdet.models.roi_heads import StandardRoIHead
from torch import Tensor

from mmfgl.models.layers.attention_mask import iou_attention_mask
from mmfgl.models.roi_heads.reading import add_scene, read_candidates
from mmfgl.models.roi_heads.region_tokens import RegionTokens
from mmfgl.models.roi_heads.scene import Scene
from mmfgl.models.task_modules import Selection
from mmfgl.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class FGLRoIHead(RegionTokens, StandardRoIHead):
    """FGL RoI head: tokens, candidate selection, region Transformer.

    RoI features -> tokenizer -> (+ position embedding) -> encoder over the
    candidates of an image, through the IoU attention mask -> decoder, queries
    = important targets, memory = candidates -> box head. Without ``bbox_head``
    it is the region encoder that ReToD pretrains, under the same names.

    Predictions keep the parents' contract of one row a RoI: RoIs that are
    not important targets get background with probability 1.

    Args:
        bbox_roi_extractor: Config of the RoI extractor.
        tokenizer: Config of the tokenizer.
        transformer: Config of the region Transformer.
        attention: Band of the IoU attention mask: ``dict(low=, high=)``.
        selector: Config of the candidate selector. Defaults to
            :class:`CandidateSelector` with its defaults.
        bbox_head: Config of the box head.
        train_context: Proposals of each image that, in training, are read
            beside the sampled RoIs: those of highest objectness that were not
            sampled. At test time every proposal is read; without them
            training shows the Transformer far fewer candidates. They take no
            gradient and cost little.
        scene_token: Let every candidate read one more, the whole image,
            whatever the band of the mask: what lies elsewhere in the image
            says much about look-alike classes.
        **kwargs: Arguments of :class:`mmdet.models.StandardRoIHead`.

    Raises:
        ValueError: If a shared head is configured, which has no place here.
    """

    def __init__(
        self,
        bbox_roi_extractor: dict,
        tokenizer: dict,
        transformer: dict,
        attention: dict | None = None,
        selector: dict | None = None,
        bbox_head: dict | None = None,
        train_context: int = 0,
        scene_token: bool = False,
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
        if bbox_head is None:
            self.bbox_roi_extractor = MODELS.build(bbox_roi_extractor)
        self.tokenizer = MODELS.build(tokenizer)
        self.transformer = MODELS.build(transformer)
        self.attention = dict(attention or {})
        self.selector = TASK_UTILS.build(
            selector or dict(type='mmfgl.CandidateSelector')
        )
        self.train_context = train_context
        self.scene_token = scene_token
        self._scenes: list[Scene] | None = None

    def attention_masks(
        self, rpn_results_list: list, batch_img_metas: list[dict]
    ) -> list[Tensor]:
        """IoU attention masks of proposals, before any selection.

        IoUs do not change under flips and axis-aligned scaling, so test-time
        augmentation computes them once and hands them to every view as the
        field ``attention_mask`` of its proposals.

        Args:
            rpn_results_list: Proposals (``bboxes`` in network-input pixels).
            batch_img_metas: Meta information of the images (not needed here,
                part of the interface).

        Returns:
            One (N, N) bool mask an image.
        """
        return [
            iou_attention_mask(results.bboxes, **self.attention)
            for results in rpn_results_list
        ]

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: list, batch_data_samples
    ) -> dict:
        """Losses of the head; see :class:`StandardRoIHead`.

        Args:
            x: Pyramid levels.
            rpn_results_list: Proposals of each image.
            batch_data_samples: Data samples with ``gt_instances``.

        Returns:
            Loss names and values.
        """
        scenes = [
            Scene(
                sample.metainfo['img_shape'],
                results.get('scores'),
                boxes=results.bboxes,
            )
            for sample, results in zip(
                batch_data_samples, rpn_results_list, strict=True
            )
        ]
        with self._seeing(scenes):
            return super().loss(x, rpn_results_list, batch_data_samples)

    def bbox_loss(self, x: tuple[Tensor, ...], sampling_results: list) -> dict:
        """Box losses of the sampled RoIs; see :class:`StandardRoIHead`.

        Args:
            x: Pyramid levels.
            sampling_results: Sampling results of each image.

        Returns:
            Results of the forward pass and ``loss_bbox``.
        """
        gt_added = getattr(self.bbox_sampler, 'add_gt_as_proposals', False)
        scenes = [
            scene.sample(sampled, gt_added, self.train_context)
            for scene, sampled in zip(
                self._scenes, sampling_results, strict=True
            )
        ]
        with self._seeing(scenes):
            return super().bbox_loss(x, sampling_results)

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: list,
        rcnn_test_cfg: dict | None,
        rescale: bool = False,
    ) -> list:
        """Predict boxes; see :class:`StandardRoIHead`.

        Args:
            x: Pyramid levels.
            batch_img_metas: Meta information of each image.
            rpn_results_list: Proposals; optional fields ``scores`` and
                ``attention_mask``.
            rcnn_test_cfg: Test config; ``None`` returns one raw row a
                proposal.
            rescale: Return boxes in original pixels.

        Returns:
            Instances of each image.
        """
        scenes = [
            Scene(
                meta['img_shape'],
                results.get('scores'),
                attention_mask=results.get('attention_mask'),
            )
            for meta, results in zip(
                batch_img_metas, rpn_results_list, strict=True
            )
        ]
        with self._seeing(scenes):
            return super().predict_bbox(
                x, batch_img_metas, rpn_results_list, rcnn_test_cfg, rescale
            )

    @contextmanager
    def _seeing(self, scenes: list[Scene]) -> Iterator[None]:
        """Hand the scenes to :meth:`_bbox_forward` through the parents.

        The parents call it with features and RoIs alone; the selector also
        needs image sizes and objectness.
        """
        before, self._scenes = self._scenes, scenes
        try:
            yield
        finally:
            self._scenes = before

    def _bbox_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict:
        """Forward of the box branch, for training, test and tensor mode.

        Args:
            x: Pyramid levels.
            rois: (R, 5) RoIs, sorted by image.

        Returns:
            ``cls_score`` (R, C + 2), ``bbox_pred`` and ``bbox_feats`` (the
            RoI features, (R, C, S, S), ``None`` unless a mask head shares
            them), one row a RoI.
        """
        scenes = self._scenes or self._scenes_from_features(x)
        counts = torch.bincount(rois[:, 0].long(), minlength=len(scenes))
        counts = counts.tolist()
        tokens, whole, roi_feats = self._tokens(x, rois, counts, scenes)
        boxes, seen = zip(
            *(
                scene.with_extra(b)
                for scene, b in zip(
                    scenes, rois[:, 1:].float().split(counts), strict=True
                )
            ),
            strict=True,
        )
        selections = [
            self.selector.select(
                b, s.img_shape, s.scores, t.detach(), training=self.training
            )
            for b, s, t in zip(boxes, seen, tokens, strict=True)
        ]
        masks = [
            self._mask(b, scene, selection)
            for b, scene, selection in zip(
                boxes, seen, selections, strict=True
            )
        ]
        # extra candidates come last and are not answered
        targets = [
            s.targets[s.targets < n]
            for s, n in zip(selections, counts, strict=True)
        ]
        if whole is not None:
            tokens = [torch.cat(pair) for pair in zip(tokens, whole[0])]
            boxes = [torch.cat(pair) for pair in zip(boxes, whole[1])]
            masks = [add_scene(mask) for mask in masks]
        embeddings = read_candidates(
            self.transformer, tokens, masks, targets, boxes
        )
        cls_score, bbox_pred = self.bbox_head(torch.cat(embeddings))
        rows = _batch_rows(targets, counts)
        if len(rows) < len(rois):
            answered, deltas = cls_score, bbox_pred
            cls_score = self.bbox_head.background_logits(len(rois), answered)
            bbox_pred = deltas.new_zeros(len(rois), deltas.shape[1])
            cls_score[rows], bbox_pred[rows] = answered, deltas
        return dict(
            cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=roi_feats
        )

    def _mask(
        self, boxes: Tensor, scene: Scene, selection: Selection
    ) -> Tensor:
        """(N, N) bool attention mask of one image."""
        context = selection.context
        if scene.readable is not None:
            context = context & scene.readable
        if scene.attention_mask is None:
            return iou_attention_mask(boxes, context=context, **self.attention)
        mask = scene.attention_mask & context
        return mask.fill_diagonal_(True)

    def _scenes_from_features(self, x: tuple[Tensor, ...]) -> list[Scene]:
        """Scenes for 'tensor' mode, where only the features are known."""
        stride = self.bbox_roi_extractor.featmap_strides[0]
        height, width = (side * stride for side in x[0].shape[-2:])
        return [Scene((height, width)) for _ in range(len(x[0]))]


def _batch_rows(targets: list[Tensor], counts: list[int]) -> Tensor:
    """Rows of the batch that the targets of all images stand in."""
    offset, rows = 0, []
    for target, count in zip(targets, counts, strict=True):
        rows.append(target + offset)
        offset += count
    return torch.cat(rows)
