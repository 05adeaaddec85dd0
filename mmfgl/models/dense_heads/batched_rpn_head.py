"""RPN whose targets and proposals are computed for all images at once.

Shape shorthand: B images, A anchors of all levels, N candidates of an image
before NMS. Boxes are in network-input pixels.
"""

import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from mmfgl.models.dense_heads.batched_proposals import (
    SPLIT_THR,
    best_proposals,
    candidates,
)
from mmfgl.models.task_modules import batched_sampling
from mmfgl.models.task_modules.batched_sampling import Drawn, Padded
from mmfgl.registry import MODELS
from mmfgl.utils.model import to_fp32


@MODELS.register_module()
class BatchedRPNHead(RPNHead):
    """mmdet's RPN without its loops over the images of a batch.

    Of many small images, as in pretraining, the loops keep a GPU waiting for
    the host. Parameters, keys of the state dict, losses and proposals are
    those of :class:`mmdet.models.RPNHead` (on a CPU, whose kernels round the
    ends of a tensor otherwise, but for the last bit of a score; equal scores
    may swap there). Only which anchors are drawn where there are too many
    comes of other random numbers.
    What the batched form does not know goes the parent's way: images of
    different size, other assigners, samplers, coders or options of NMS,
    ``rescale``.
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
        **others: bool,
    ) -> tuple:
        """Targets of all anchors; see :class:`mmdet.models.AnchorHead`.

        Args:
            anchor_list: For each image the (A_l, 4) anchors of each level.
            valid_flag_list: For each image the (A_l,) flags of each level.
            batch_gt_instances: ``bboxes`` (M_b, 4) and ``labels`` (M_b,).
            batch_img_metas: Meta information of the images.
            batch_gt_instances_ignore: ``bboxes`` of regions to ignore.
            **others: Further arguments of the parent's.

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
        )
        if (
            others
            or self.reg_decoded_bbox
            or not self._has_plain_boxes()
            or not batched_sampling.can_batch(
                self.assigner, self.sampler, batch_gt_instances
            )
            or self.sampler.add_gt_as_proposals
            or not _shared(anchor_list)
            or not _shared(valid_flag_list)
            or not _same(batch_img_metas, 'img_shape')
        ):
            return super().get_targets(*arguments, **others)
        anchors = torch.cat(anchor_list[0])
        border = self.train_cfg['allowed_border']
        used = torch.cat(valid_flag_list[0])
        if border >= 0:
            height, width = batch_img_metas[0]['img_shape'][:2]
            used = used & (anchors[:, :2] >= -border).all(dim=1)
            used = used & (anchors[:, 2] < width + border)
            used = used & (anchors[:, 3] < height + border)
        num = len(batch_gt_instances)
        truth = Padded.of([truth.bboxes for truth in batch_gt_instances])
        labels = Padded.of([truth.labels for truth in batch_gt_instances]).rows
        assigned = batched_sampling.assign(
            self.assigner,
            truth,
            anchors.expand(num, -1, -1),
            used.expand(num, -1),
        )
        positive, negative = batched_sampling.draw(self.sampler, assigned)
        drawn = positive.counts.clamp(min=1) + negative.counts.clamp(min=1)
        # the one wait for the device
        avg_factor, num_used = torch.stack([drawn.sum(), used.sum()]).tolist()
        if num_used == 0:
            return super().get_targets(*arguments)  # tells
        box = assigned.gather(1, positive.index.clamp(max=len(anchors) - 1))
        box = (box - 1).clamp(min=0)  # (B, K)
        image = torch.arange(num, device=box.device)[:, None]
        targets = self._fill_targets(
            anchors,
            labels.gather(1, box),
            truth.rows[image, box],
            positive,
            negative,
        )
        sizes = [len(level) for level in anchor_list[0]]
        levels = [list(target.split(sizes, dim=1)) for target in targets]
        return (*levels, avg_factor)

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
        labels: Tensor,
        boxes: Tensor,
        positive: Drawn,
        negative: Drawn,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Labels (B, A), weights, box targets (B, A, 4) and weights.

        (A, 4) anchors; (B, K) labels and (B, K, 4) boxes of the positive.
        """
        # a last column takes what is not of an anchor
        shape = (len(labels), len(anchors) + 1)
        index = positive.index
        own = labels.new_full(shape, self.num_classes).scatter(
            1, index, labels
        )
        weights = anchors.new_zeros(shape, dtype=torch.float)
        chosen = weights.scatter(1, index, 1.0)
        weight = self.train_cfg['pos_weight']
        weights.scatter_(1, index, weight if weight > 0 else 1.0)
        weights.scatter_(1, negative.index, 1.0)
        deltas = self.bbox_coder.encode(
            anchors[index.clamp(max=len(anchors) - 1)].flatten(0, 1),
            boxes.flatten(0, 1),
        )
        targets = anchors.new_zeros(*shape, 4).scatter(
            1, index[..., None].expand_as(boxes), deltas.view_as(boxes)
        )
        chosen = chosen[:, :-1, None].expand(-1, -1, 4)
        return own[:, :-1], weights[:, :-1], targets[:, :-1], chosen

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
        # anchors take their dtype: half a number is pixels wide far out
        cls_scores, bbox_preds = to_fp32([cls_scores, bbox_preds])
        chosen = self.test_cfg if cfg is None else cfg
        sizes = [self.num_base_priors * s[0, 0].numel() for s in cls_scores]
        nms = dict(chosen.get('nms') or {})
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
            or nms.pop('type', 'nms') != 'nms'
            or list(nms) != ['iou_threshold']
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
        priors = self.prior_generator.grid_priors(
            [scores.shape[-2:] for scores in cls_scores],
            dtype=cls_scores[0].dtype,
            device=cls_scores[0].device,
        )
        scores, deltas, anchors = candidates(
            cls_scores, bbox_preds, priors, kept
        )
        boxes = self.bbox_coder.decode(
            anchors.flatten(0, 1),
            deltas.flatten(0, 1),
            max_shape=batch_img_metas[0]['img_shape'],
        ).view(*scores.shape, 4)
        levels = [
            scores.new_full((size,), level, dtype=torch.long)
            for level, size in enumerate(kept)
        ]
        return best_proposals(boxes, scores, torch.cat(levels), chosen)


def _same(metas: list[dict], key: str) -> bool:
    """Whether all images have the same (height, width) under a key."""
    return len({tuple(meta[key][:2]) for meta in metas}) == 1


def _shared(levels: list[list[Tensor]]) -> bool:
    """Whether all images have the very same tensors."""
    return all(own is levels[0] for own in levels)
