"""What a RoI head knows of an image beside its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from mmdet.models.task_modules import SamplingResult
from mmengine.structures import InstanceData
from torch import Tensor

from mmfgl.models.layers import diagonal, iou_attention_mask


@dataclass
class RoIContext:
    """The RoIs of one image as candidate selector and attention mask see them.

    N is the number of RoIs of the image.

    Attributes:
        boxes: (N, 4) RoIs in network-input pixels.
        img_shape: (height, width) in network-input pixels, without padding;
            see :func:`mmfgl.models.layers.boxes.image_sides`.
        scores: (N,) objectness of the RoIs, or ``None`` if unknown.
        attendable: (N,) bool, RoIs that others may attend, or ``None`` for
            all. In training the true boxes that the sampler adds are not
            attendable: at test time nobody will offer them.
        attention_mask: (N, N) bool mask computed before, or ``None``.
    """

    boxes: Tensor
    img_shape: tuple[int, int] | Tensor
    scores: Tensor | None = None
    attendable: Tensor | None = None
    attention_mask: Tensor | None = None

    @classmethod
    def of_sampled(
        cls,
        results: Sequence[SamplingResult],
        img_shapes: Sequence[tuple[int, int]],
        scores: Sequence[Tensor | None],
        gt_added: bool,
    ) -> list[RoIContext]:
        """The contexts of the RoIs that a sampler took from the proposals.

        Args:
            results: Sampling result of each image; its RoIs are the positive
                ones, then the negative ones.
            img_shapes: (height, width) in network-input pixels.
            scores: Objectness of all proposals of each image, or ``None``.
            gt_added: Whether the sampler put the true boxes before the
                proposals (``add_gt_as_proposals``); their objectness is 1.
        """
        pos_inds = [result.pos_inds for result in results]
        neg_inds = [result.neg_inds for result in results]
        num_neg = [len(inds) for inds in neg_inds]
        counts = [len(inds) for inds in pos_inds]
        counts = [sum(pair) for pair in zip(counts, num_neg, strict=True)]
        boxes = interleave(
            [result.pos_priors for result in results],
            [result.neg_priors for result in results],
        )
        added = [result.pos_is_gt for result in results]
        none = added[0].new_zeros(max(num_neg))
        attendable = interleave(added, [none[:num] for num in num_neg]) == 0
        known = [None] * len(results)
        if all(own is not None for own in scores):
            num_added = [r.num_gts if gt_added else 0 for r in results]
            ones = scores[0].new_ones(max(num_added))
            flat = interleave([ones[:num] for num in num_added], scores)
            sizes = [len(own) for own in scores]
            sizes = [sum(pair) for pair in zip(sizes, num_added, strict=True)]
            starts = torch.tensor(sizes).cumsum(0) - torch.tensor(sizes)
            starts = starts.repeat_interleave(torch.tensor(counts))
            starts = starts.to(flat.device, non_blocking=True)
            known = flat[interleave(pos_inds, neg_inds) + starts].split(counts)
        parts = (boxes.split(counts), img_shapes, known)
        fields = zip(*parts, attendable.split(counts), strict=True)
        return [cls(*own) for own in fields]

    @classmethod
    def of_proposals(
        cls,
        boxes: Sequence[Tensor],
        metas: Sequence[dict],
        proposals: Sequence[InstanceData],
    ) -> list[RoIContext]:
        """The contexts of proposals at test time.

        Args:
            boxes: (N, 4) finite boxes of each image.
            metas: Meta information of each image.
            proposals: Their optional fields ``scores``, ``attention_mask``.
        """
        return [
            cls(
                own,
                meta['img_shape'],
                results.get('scores'),
                attention_mask=results.get('attention_mask'),
            )
            for own, meta, results in zip(boxes, metas, proposals, strict=True)
        ]

    @classmethod
    def of_features(
        cls, feats: Tensor, stride: int, rois: Tensor
    ) -> list[RoIContext]:
        """Contexts where no more is known than (B, C, H, W) features.

        Images fill them; (R, 5) ``rois`` begin with the image's number.
        """
        height, width = (side * stride for side in feats.shape[-2:])
        return [
            cls(rois[rois[:, 0] == index, 1:], (height, width))
            for index in range(len(feats))
        ]

    def mask(self, kept: Tensor, attention: Mapping[str, float]) -> Tensor:
        """(..., N, N) attention mask.

        Args:
            kept: (..., N) bool, the candidates that are attended.
            attention: Band of the IoU attention mask.
        """
        mask = self.attention_mask
        if mask is None:
            mask = iou_attention_mask(self.boxes, **attention)
        if self.attendable is not None:
            kept = kept & self.attendable
        return (mask & kept.unsqueeze(-2)) | diagonal(self.boxes)

    @classmethod
    def stack(cls, contexts: Sequence[RoIContext]) -> RoIContext | None:
        """Contexts of B images as one, whose shapes begin with B.

        ``None`` where the images differ in size, in the number of RoIs or in
        what is known of them.
        """
        fields = ('boxes', 'scores', 'attendable', 'attention_mask')
        kinds = {
            (
                len(context.boxes),
                *context.img_shape,
                *(getattr(context, name) is None for name in fields),
            )
            for context in contexts
        }
        if len(kinds) > 1:
            return None
        stacked = {
            name: torch.stack([getattr(context, name) for context in contexts])
            for name in fields
            if getattr(contexts[0], name) is not None
        }
        return cls(img_shape=contexts[0].img_shape, **stacked)


def interleave(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Rows of the first image's two tensors, of the second image's, ..."""
    pairs = zip(first, second, strict=True)
    return torch.cat([part for pair in pairs for part in pair])


def batch_rois(boxes: Sequence[Tensor]) -> Tensor:
    """(R, 5) RoIs of (N_b, 4) boxes of B images, the image's number first.

    As ``mmdet.structures.bbox.bbox2roi``, with few kernels.
    """
    flat = torch.cat(list(boxes))
    counts = torch.tensor([len(own) for own in boxes])
    image = torch.arange(len(boxes)).repeat_interleave(counts).to(flat.dtype)
    image = image.to(flat.device, non_blocking=True)
    return torch.cat([image[:, None], flat], dim=1)
