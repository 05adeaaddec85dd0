"""Fuse what several passes say about the same RoIs.

Shape shorthand: P passes (views or pyramid levels), R RoIs, C classes,
K boxes an RoI (C, or 1 for class-agnostic heads).
"""

from dataclasses import dataclass

import torch
from mmdet.structures.bbox import bbox_overlaps
from torch import Tensor

from mmfgl.models.test_time_augs.options import RoITTAOptions


@dataclass
class Evidence:
    """Raw predictions for the RoIs of one image, before NMS.

    Attributes:
        boxes: (P, R, 4 K) boxes in pixels of the reference frame.
        scores: (P, R, C + 1) class probabilities, background last.
        weights: (P, R) weights, >= 0; every RoI has one above 0.
    """

    boxes: Tensor
    scores: Tensor
    weights: Tensor


def with_fallback(weights: Tensor) -> Tensor:
    """Give RoIs that no pass counts to the first pass, the reference.

    Args:
        weights: (P, R) weights.

    Returns:
        (P, R) weights with a positive sum over the passes.
    """
    weights = weights.clone()
    weights[0, weights.sum(0) <= 0] = 1
    return weights


def fuse(evidence: Evidence, options: RoITTAOptions) -> tuple[Tensor, Tensor]:
    """Fuse the passes of one image.

    Args:
        evidence: What each pass says.
        options: Kinds of fusion.

    Returns:
        - (R, 4 K) boxes in pixels of the reference frame.
        - (R, C + 1) scores.

        With one pass these are its boxes and scores, bit for bit.
    """
    if len(evidence.boxes) == 1:
        return evidence.boxes[0], evidence.scores[0]
    scores = fuse_scores(
        evidence.scores, evidence.weights, options.score_fusion
    )
    boxes = fuse_boxes(
        evidence.boxes,
        evidence.scores,
        evidence.weights,
        options.box_fusion,
        options.vote_iou,
    )
    return boxes, scores


def fuse_scores(scores: Tensor, weights: Tensor, mode: str) -> Tensor:
    """Fuse class probabilities.

    Args:
        scores: (P, R, C + 1) probabilities.
        weights: (P, R) weights.
        mode: ``'max'``, or a weighted mean (``'mean'``, ``'weighted'``).

    Returns:
        (R, C + 1) scores.
    """
    if mode == 'max':
        ignored = (weights <= 0).unsqueeze(-1)
        return scores.masked_fill(ignored, 0).amax(0)
    shares = weights / weights.sum(0)
    return (scores * shares.unsqueeze(-1)).sum(0)


def fuse_boxes(
    boxes: Tensor,
    scores: Tensor,
    weights: Tensor,
    mode: str,
    vote_iou: float = 0.65,
) -> Tensor:
    """Fuse boxes; each counts by its pass's weight x its class's score.

    Args:
        boxes: (P, R, 4 K) boxes, one frame.
        scores: (P, R, C + 1) probabilities.
        weights: (P, R) weights.
        mode: ``'score_weighted'``, ``'voting'`` or ``'reference'``, see
            :class:`RoITTAOptions`. Voting follows arXiv 1505.01749 within the
            boxes of one RoI.
        vote_iou: IoU with the leading box from which on a box votes.

    Returns:
        (R, 4 K) boxes.
    """
    if mode == 'reference':
        return boxes[0]
    passes, num_rois = weights.shape
    num_boxes = boxes.shape[-1] // 4
    confidence = _confidence(scores, num_boxes)
    shares = weights.unsqueeze(-1) * confidence  # (P, R, K)
    corners = boxes.reshape(passes, num_rois, num_boxes, 4)
    leader = corners[0]
    if mode == 'voting':
        per_box = corners.permute(1, 2, 0, 3)  # (R, K, P, 4)
        iou = bbox_overlaps(per_box, per_box)  # (R, K, P, P)
        votes = shares.permute(1, 2, 0)  # (R, K, P)
        support = (iou * votes.unsqueeze(-2)).sum(-1)
        best = support.masked_fill(votes <= 0, -1).argmax(-1)  # (R, K)
        row = best[..., None, None].expand(*best.shape, 1, passes)
        agrees = iou.gather(2, row).squeeze(2) >= vote_iou
        shares = shares * agrees.permute(2, 0, 1)
        pick = best[None, ..., None].expand(1, *best.shape, 4)
        leader = corners.gather(0, pick)[0]
    shares = shares.unsqueeze(-1)
    total = shares.sum(0).clamp(min=torch.finfo(shares.dtype).tiny)
    # as an offset from one of the boxes: exact where all boxes are equal
    mean = leader + (shares * (corners - leader)).sum(0) / total
    return mean.flatten(1)


def _confidence(scores: Tensor, num_boxes: int) -> Tensor:
    """(P, R, K) scores that the boxes of an RoI stand for."""
    foreground = scores[..., :-1]
    if num_boxes == foreground.shape[-1]:
        return foreground
    if num_boxes == 1:
        return foreground.amax(-1, keepdim=True)
    raise ValueError(
        f'the box head gives {num_boxes} boxes an RoI for '
        f'{foreground.shape[-1]} classes; RoITTAModel needs one box an RoI '
        "or one a class. box_fusion='reference' with neighbour_iou=None takes "
        'any number.'
    )
