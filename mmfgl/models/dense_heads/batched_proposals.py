"""Candidates and NMS of an RPN for all images of a batch.

Shape shorthand: B images, N candidates of an image before NMS.
"""

import itertools

import torch
from mmcv.ops import nms
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

# Above so many boxes mmcv's batched_nms goes level by level.
SPLIT_THR = 10_000
# Images an NMS on a GPU: boxes mirrored into the four quadrants do not meet,
# and overlap each other as before, to the bit. (An offset would round.) On a
# CPU each box is compared with all, so images in one call cost more.
IMAGES_A_CALL = dict(cuda=4, cpu=1)


def candidates(
    cls_scores: list[Tensor],
    bbox_preds: list[Tensor],
    priors: list[Tensor],
    numbers: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """The best anchors of each level by their scores.

    Args:
        cls_scores: Levels, each (B, anchors of a cell, H, W) logits.
        bbox_preds: Levels, each (B, 4 x anchors of a cell, H, W).
        priors: (A_l, 4) anchors of each level.
        numbers: How many to take of each level; where these are all, they
            keep their order.

    Returns:
        (B, N) scores, (B, N, 4) deltas and (B, N, 4) anchors.
    """
    parts = []
    for scores, deltas, anchors, most in zip(
        cls_scores, bbox_preds, priors, numbers, strict=True
    ):
        scores = scores.permute(0, 2, 3, 1).flatten(1).sigmoid()
        deltas = deltas.permute(0, 2, 3, 1).reshape(*scores.shape, 4)
        anchors = anchors.expand_as(deltas)
        if most < scores.shape[1]:
            scores, order = scores.sort(dim=1, descending=True, stable=True)
            scores, order = scores[:, :most], order[:, :most, None]
            order = order.expand(-1, -1, 4)
            deltas = deltas.gather(1, order)
            anchors = anchors.gather(1, order)
        parts.append((scores, deltas, anchors))
    return tuple(torch.cat(part, dim=1) for part in zip(*parts, strict=True))


def best_proposals(
    boxes: Tensor, scores: Tensor, levels: Tensor, cfg: ConfigDict
) -> list[InstanceData]:
    """NMS within the levels of each image, then the best of each image.

    Args:
        boxes: (B, N, 4) network-input pixels, none negative; N < 10,000.
        scores: (B, N) objectness.
        levels: (N,) long, the level of each box.
        cfg: ``nms.iou_threshold``, ``max_per_img`` and ``min_bbox_size``.

    Returns:
        ``bboxes``, ``scores`` and ``labels`` of each image, best first.
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
    # the valid boxes of each image come first, in their order
    order = (~valid).byte().sort(dim=1, stable=True).indices
    first = torch.arange(0, scores.numel(), each, device=boxes.device)
    order = order + first[:, None]
    counts = valid.sum(dim=1).tolist()  # a wait for the device
    step = IMAGES_A_CALL.get(boxes.device.type, 1)
    step = min(step, 2 * SPLIT_THR // each)
    if step > 1:
        quadrant = torch.arange(num, device=boxes.device) % step
        x, y = quadrant % 2 == 1, quadrant > 1
        mirror = torch.stack([x, y, x, y], dim=1)[:, None]  # (B, 1, 4)
        apart = torch.where(mirror, -apart.roll(2, -1), apart)
    apart, boxes, scores = (
        tensor.flatten(0, 1) for tensor in (apart, boxes, scores)
    )
    rows = [row[:count] for row, count in zip(order, counts, strict=True)]
    kept = []
    for start in range(0, num, step):
        index = torch.cat(rows[start : start + step])
        _, found = nms(apart[index], scores[index], cfg.nms.iou_threshold)
        kept.append(index[found])
    kept = torch.cat(kept)
    # by image, best first
    image, rank = (kept // each).sort(stable=True)
    kept = kept[rank]
    ends = torch.searchsorted(image, torch.arange(num + 1, device=kept.device))
    ends = ends.tolist()  # and another one
    boxes, scores = boxes[kept], scores[kept]
    labels = torch.zeros_like(kept)
    return [
        InstanceData(bboxes=boxes[own], scores=scores[own], labels=labels[own])
        for own in (
            slice(start, min(stop, start + cfg.max_per_img))
            for start, stop in itertools.pairwise(ends)
        )
    ]
