"""Fuse what several views, or pyramid levels, say about the same RoIs.

Shape shorthand: V views (or levels), R RoIs, C classes, K boxes an RoI (C, or
1 for class-agnostic heads).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmfgl.models.layers import pairwise_iou

# of weighted boxes fusion, arXiv 1910.13302
WBF_IOU = 0.55


@dataclass(frozen=True)
class Predictions:
    """Raw predictions for the RoIs of one image, before NMS.

    Attributes:
        boxes: (V, R, 4 K) boxes in pixels of the reference view.
        scores: (V, R, C + 1) class probabilities, background last.
        weights: (V, R) weights, >= 0; every RoI has one above 0.
    """

    boxes: Tensor
    scores: Tensor
    weights: Tensor


def fuse(predictions: Predictions, box_fusion: str) -> tuple[Tensor, Tensor]:
    """Average the probabilities and the boxes of the views of one image.

    Each box counts by its view's weight x the score of its class;
    ``box_fusion`` as in :class:`RoITTAModel`.

    Returns:
        - (R, 4 K) boxes in pixels of the reference view.
        - (R, C + 1) scores.
    """
    boxes, weights = predictions.boxes, predictions.weights
    shares = (weights / weights.sum(0)).unsqueeze(-1)  # (V, R, 1)
    scores = (predictions.scores * shares).sum(0)
    corners = boxes.unflatten(-1, (-1, 4))  # (V, R, K, 4)
    shares = shares * _box_scores(predictions.scores, corners.shape[2])
    leader = corners[0]
    if box_fusion == 'wbf':
        best, agrees = _best_supported(corners, shares)
        leader = corners.gather(
            0, best[None, ..., None].expand_as(leader[None])
        )[0]
        shares = shares * agrees
    shares = shares.unsqueeze(-1)
    total = shares.sum(0).clamp(min=torch.finfo(shares.dtype).tiny)
    # as an offset from one of the boxes: exact where all boxes are equal
    mean = leader + (shares * (corners - leader)).sum(0) / total
    return mean.flatten(1), scores


def _best_supported(corners: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """The box of each RoI that overlaps the others most.

    (V, R, K, 4) boxes count by (V, R, K) shares.

    Returns:
        - (R, K) view of that box.
        - (V, R, K) bool: which boxes overlap it enough to be fused with it.
    """
    per_box = corners.permute(1, 2, 0, 3)  # (R, K, V, 4)
    votes = shares.permute(1, 2, 0)  # (R, K, V)
    iou = pairwise_iou(per_box, per_box)  # (R, K, V, V)
    support = (iou * votes.unsqueeze(-2)).sum(-1)
    best = support.masked_fill(votes <= 0, -1).argmax(-1)  # (R, K)
    row = best[..., None, None].expand(*best.shape, 1, len(corners))
    agrees = iou.gather(2, row).squeeze(2) >= WBF_IOU
    return best, agrees.permute(2, 0, 1)


def _box_scores(scores: Tensor, num_boxes: int) -> Tensor:
    """(V, R, K) scores that the boxes of an RoI stand for."""
    foreground = scores[..., :-1]
    if num_boxes == foreground.shape[-1]:
        return foreground
    if num_boxes == 1:
        return foreground.amax(-1, keepdim=True)
    raise ValueError(
        f'the box head gives {num_boxes} boxes an RoI for '
        f'{foreground.shape[-1]} classes; RoITTAModel needs one box an RoI '
        'or one a class'
    )
