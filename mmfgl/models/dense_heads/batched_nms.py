"""NMS of the proposals of all images of a batch."""

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
