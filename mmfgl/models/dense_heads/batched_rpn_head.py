"""RPN whose targets and proposals are computed for all images at once.

Shape shorthand: B images, A anchors of all levels, N candidates of an image
before NMS. Boxes are in network-input pixels.
"""

import torch
from mmcv.ops import nms
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules import (
    AnchorGenerator,
    BboxOverlaps2D,
    DeltaXYWHBBoxCoder,
    MaxIoUAssigner,
    RandomSampler,
)
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmfgl.models.dense_heads.rpn_targets import PaddedBoxes, assign, sample
from mmfgl.registry import MODELS

# Above so many boxes mmcv's batched_nms goes level by level.
SPLIT_THR = 10_000
# Images an NMS on a GPU: boxes mirrored into the four quadrants do not meet,
# and overlap each other as before, to the bit. (An offset would round.) On a
# CPU each box is compared with all, so images in one call cost more.
IMAGES_A_CALL = dict(cuda=4, cpu=1)


@MODELS.register_module()
class BatchedRPNHead(RPNHead):
    """mmdet's RPN without its loops over the images of a batch.

    Of many small images, as in pretraining, the loops keep a GPU waiting for
    the host. Parameters, keys of the state dict, losses and proposals are
    those of :class:`mmdet.models.RPNHead`; only which anchors are drawn, where
    there are too many, comes of other random numbers. What the batched form
    does not know goes through the parent's: images of different size, other
    assigners, samplers, coders or options of NMS, ``rescale``.
    """

    def get_anchors(
        self,
        featmap_sizes: list[tuple[int, int]],
        batch_img_metas: list[dict],
        device: torch.device | str = 'cuda',
    ) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Anchors and valid flags; images of one size share the tensors.

        Args:
            featmap_sizes: (height, width) of each level.
            batch_img_metas: Meta information of the B images.
            device: Where the tensors are made.

        Returns:
            For each image the (A_l, 4) anchors and (A_l,) flags of each level.
        """
        if not _same(batch_img_metas, 'pad_shape'):
            return super().get_anchors(featmap_sizes, batch_img_metas, device)
        anchors, flags = super().get_anchors(
            featmap_sizes, batch_img_metas[:1], device
        )
        return anchors * len(batch_img_metas), flags * len(batch_img_metas)

    @torch.no_grad()
    def get_targets(
        self,
        anchor_list: list[list[Tensor]],
        valid_flag_list: list[list[Tensor]],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
        unmap_outputs: bool = True,
        return_sampling_results: bool = False,
    ) -> tuple:
        """Targets of all anchors; see :class:`mmdet.models.AnchorHead`.

        Args:
            anchor_list: For each image the (A_l, 4) anchors of each level.
            valid_flag_list: For each image the (A_l,) flags of each level.
            batch_gt_instances: ``bboxes`` (M_b, 4) and ``labels`` (M_b,).
            batch_img_metas: Meta information of the images.
            batch_gt_instances_ignore: ``bboxes`` of regions to ignore.
            unmap_outputs: Whether anchors outside of the image have targets.
            return_sampling_results: Whether to return these too.

        Returns:
            For each level labels (B, A_l), their weights, box targets
            (B, A_l, 4) and theirs; the number of samples.
        """
        arguments = (
            anchor_list,
            valid_flag_list,
            batch_gt_instances,
            batch_img_metas,
            batch_gt_instances_ignore,
            unmap_outputs,
            return_sampling_results,
        )
        if (
            not unmap_outputs
            or return_sampling_results
            or not _shared(anchor_list)
            or not _shared(valid_flag_list)
            or not _same(batch_img_metas, 'img_shape')
            or not self._has_plain_targets()
        ):
            return super().get_targets(*arguments)
        anchors = torch.cat(anchor_list[0])
        border = self.train_cfg['allowed_border']
        used = torch.cat(valid_flag_list[0])
        if border >= 0:
            height, width = batch_img_metas[0]['img_shape'][:2]
            used = used & (anchors[:, :2] >= -border).all(dim=1)
            used = used & (anchors[:, 2] < width + border)
            used = used & (anchors[:, 3] < height + border)
        truth = PaddedBoxes.of(
            [instances.bboxes for instances in batch_gt_instances],
            [instances.labels for instances in batch_gt_instances],
        )
        assigned = assign(self.assigner, truth, anchors, used)
        positive, negative = sample(self.sampler, assigned)
        drawn = positive.counts.clamp(min=1) + negative.counts.clamp(min=1)
        # the one wait for the device
        avg_factor, num_used = torch.stack([drawn.sum(), used.sum()]).tolist()
        if num_used == 0:
            return super().get_targets(*arguments)  # raises
        targets = self._fill_targets(
            anchors, truth, assigned, positive.index, negative.index
        )
        sizes = [len(level) for level in anchor_list[0]]
        levels = [list(target.split(sizes, dim=1)) for target in targets]
        return (*levels, avg_factor)

    def _has_plain_targets(self) -> bool:
        """Whether :mod:`rpn_targets` knows assigner, sampler and coder."""
        assigner, sampler = self.assigner, self.sampler
        return (
            type(assigner) is MaxIoUAssigner
            and type(assigner.iou_calculator) is BboxOverlaps2D
            and assigner.iou_calculator.dtype is None
            and isinstance(assigner.neg_iou_thr, float)
            and assigner.min_pos_iou >= 0
            and assigner.gt_max_assign_all
            and assigner.ignore_iof_thr <= 0
            and assigner.gpu_assign_thr <= 0
            and assigner.perm_repeat_gt_cfg is None
            and type(sampler) is RandomSampler
            and not sampler.add_gt_as_proposals
            and not self.reg_decoded_bbox
            and self._has_plain_boxes()
        )

    def _has_plain_boxes(self) -> bool:
        """Whether anchors and coder are those of Faster R-CNN."""
        coder = self.bbox_coder
        return (
            type(self.prior_generator) is AnchorGenerator
            and not self.prior_generator.use_box_type
            and type(coder) is DeltaXYWHBBoxCoder
            and not coder.use_box_type
        )

    def _fill_targets(
        self,
        anchors: Tensor,
        truth: PaddedBoxes,
        assigned: Tensor,
        positive: Tensor,
        negative: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Labels (B, A), weights, box targets (B, A, 4), weights.

        ``positive`` and ``negative`` are (B, K) indices into the anchors; A,
        the end of them, is a column to throw away.
        """
        shape = (len(assigned), len(anchors) + 1)
        index = positive.clamp(max=len(anchors) - 1)
        box = (assigned.gather(1, index) - 1).clamp(min=0)  # (B, K)
        labels = assigned.new_full(shape, self.num_classes)
        targets = anchors.new_zeros(*shape, 4)
        if truth.boxes.shape[1]:
            labels.scatter_(1, positive, truth.labels.gather(1, box))
            rows = torch.arange(len(box), device=box.device)[:, None]
            deltas = self.bbox_coder.encode(
                anchors[index].flatten(0, 1),
                truth.boxes[rows, box].flatten(0, 1),
            )
            where = positive[..., None].expand(-1, -1, 4)
            targets.scatter_(1, where, deltas.view(where.shape))
        weights = anchors.new_zeros(shape, dtype=torch.float)
        chosen = weights.scatter(1, positive, 1.0)
        weight = self.train_cfg['pos_weight']
        weights.scatter_(1, positive, weight if weight > 0 else 1.0)
        weights.scatter_(1, negative, 1.0)
        chosen = chosen[:, :-1, None].expand(-1, -1, 4)
        return labels[:, :-1], weights[:, :-1], targets[:, :-1], chosen

    @torch.no_grad()
    def predict_by_feat(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        score_factors: list[Tensor] | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: ConfigDict | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Proposals of each image; see :class:`mmdet.models.RPNHead`.

        Args:
            cls_scores: Levels, each (B, anchors of a cell, H, W).
            bbox_preds: Levels, each (B, 4 x anchors of a cell, H, W).
            score_factors: Not used by an RPN.
            batch_img_metas: Meta information of the images.
            cfg: Test config, by default the head's.
            rescale: Return boxes in original pixels.
            with_nms: Must be ``True``.

        Returns:
            ``bboxes``, ``scores`` and ``labels`` of each image, best first.
        """
        chosen = self.test_cfg if cfg is None else cfg
        sizes = [self.num_base_priors * s[0, 0].numel() for s in cls_scores]
        most = chosen.get('nms_pre', -1)
        kept = [size if most <= 0 else min(size, most) for size in sizes]
        if (
            score_factors is not None
            or rescale
            or not with_nms
            or not self.use_sigmoid_cls
            or not self.bbox_coder.clip_border
            or not self._has_plain_boxes()
            or not _same(batch_img_metas, 'img_shape')
            or chosen.nms.get('type', 'nms') != 'nms'
            or set(chosen.nms) - {'type', 'iou_threshold'}
            or sum(kept) >= SPLIT_THR
        ):
            return super().predict_by_feat(
                cls_scores,
                bbox_preds,
                score_factors,
                batch_img_metas,
                cfg,
                rescale,
                with_nms,
            )
        scores, boxes = self._candidates(
            cls_scores, bbox_preds, kept, batch_img_metas[0]['img_shape']
        )
        levels = [
            scores.new_full((size,), level, dtype=torch.long)
            for level, size in enumerate(kept)
        ]
        return _suppress(boxes, scores, torch.cat(levels), chosen)

    def _candidates(
        self,
        cls_scores: list[Tensor],
        bbox_preds: list[Tensor],
        kept: list[int],
        img_shape: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """(B, N) scores and (B, N, 4) boxes of the best of each level."""
        priors = self.prior_generator.grid_priors(
            [scores.shape[-2:] for scores in cls_scores],
            dtype=cls_scores[0].dtype,
            device=cls_scores[0].device,
        )
        parts = []
        for scores, deltas, anchors, most in zip(
            cls_scores, bbox_preds, priors, kept, strict=True
        ):
            scores = scores.permute(0, 2, 3, 1).flatten(1).sigmoid()
            deltas = deltas.permute(0, 2, 3, 1).reshape(*scores.shape, 4)
            anchors = anchors.expand_as(deltas)
            if most < scores.shape[1]:
                scores, order = scores.sort(
                    dim=1, descending=True, stable=True
                )
                scores, order = scores[:, :most], order[:, :most, None]
                order = order.expand(-1, -1, 4)
                deltas = deltas.gather(1, order)
                anchors = anchors.gather(1, order)
            parts.append((scores, deltas, anchors))
        scores, deltas, anchors = (
            torch.cat(levels, dim=1) for levels in zip(*parts, strict=True)
        )
        boxes = self.bbox_coder.decode(
            anchors.flatten(0, 1), deltas.flatten(0, 1), max_shape=img_shape
        )
        return scores, boxes.view(*scores.shape, 4)


def _suppress(
    boxes: Tensor, scores: Tensor, levels: Tensor, cfg: ConfigDict
) -> list[InstanceData]:
    """NMS within the levels of each image, the best of each image.

    (B, N, 4) boxes with coordinates >= 0, (B, N) scores, (N,) levels.
    """
    num, each = scores.shape
    scores = scores.to(torch.promote_types(scores.dtype, boxes.dtype))
    valid = torch.ones_like(scores, dtype=torch.bool)
    if cfg.get('min_bbox_size', -1) >= 0:
        sides = boxes[..., 2:] - boxes[..., :2]
        valid = (sides > cfg.min_bbox_size).all(dim=-1)
    # as mmcv's batched_nms keeps levels apart
    most = boxes.masked_fill(~valid[..., None], 0).amax(dim=(1, 2))
    apart = boxes + (levels.to(boxes) * (most[:, None] + 1))[..., None]
    order = scores.masked_fill(~valid, -1)  # last: they suppress none
    step = min(IMAGES_A_CALL[boxes.device.type], 2 * SPLIT_THR // each)
    if step > 1:
        quadrant = torch.arange(num, device=boxes.device) % step
        x, y = quadrant % 2 == 1, quadrant > 1
        mirror = torch.stack([x, y, x, y], dim=1)[:, None]  # (B, 1, 4)
        apart = torch.where(mirror, -apart.roll(2, -1), apart)
    kept = []
    for start in range(0, num, step):
        stop = start + step
        _, found = nms(
            apart[start:stop].flatten(0, 1),
            order[start:stop].flatten(),
            cfg.nms.iou_threshold,
        )
        kept.append(found + start * each)
    kept = torch.cat(kept)
    # by image, best first; the invalid behind the last image
    image = torch.where(valid.flatten()[kept], kept // each, num)
    image, rank = image.sort(stable=True)
    kept = kept[rank]
    ends = torch.searchsorted(image, torch.arange(num + 1, device=kept.device))
    starts = ends.tolist()
    boxes, scores = boxes.flatten(0, 1)[kept], scores.flatten()[kept]
    labels = torch.zeros_like(kept)
    return [
        InstanceData(
            bboxes=boxes[own], scores=scores[own], labels=labels[own]
        )
        for own in (
            slice(start, min(stop, start + cfg.max_per_img))
            for start, stop in zip(starts, starts[1:], strict=False)
        )
    ]


def _same(metas: list[dict], key: str) -> bool:
    """Whether all images have the same (height, width) under a key."""
    return len({tuple(meta[key][:2]) for meta in metas}) == 1


def _shared(levels: list[list[Tensor]]) -> bool:
    """Whether all images have the very same tensors."""
    return all(own is levels[0] for own in levels)
