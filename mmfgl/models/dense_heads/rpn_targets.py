"""Assignment and sampling of anchors for all images of a batch at once.

Shape shorthand: B images, M true boxes of the image that has most, A anchors,
K sampled anchors of an image. Boxes are in network-input pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mmdet.models.task_modules import MaxIoUAssigner, RandomSampler
from torch import Tensor

# Pairs of a true box and an anchor compared at once.
MAX_PAIRS = 2**22


@dataclass
class PaddedBoxes:
    """True boxes of all images.

    Attributes:
        boxes: (B, M, 4); rows past an image's own are others' or zeros.
        labels: (B, M) long.
        real: (B, M) bool, ``False`` for padding.
    """

    boxes: Tensor
    labels: Tensor
    real: Tensor

    @classmethod
    def of(
        cls, boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> 'PaddedBoxes':
        """Of (M_b, 4) boxes and (M_b,) labels of B images."""
        counts = [len(own) for own in boxes]
        most = max(counts)
        flat = torch.cat([*boxes, boxes[0].new_zeros(1, 4)])
        names = torch.cat([*labels, labels[0].new_zeros(1)])
        ends = torch.tensor(counts).cumsum(0)
        # one copy to the device for both
        first, number = (
            torch.stack([ends - torch.tensor(counts), torch.tensor(counts)])
            .to(flat.device, non_blocking=True)
            .unsqueeze(-1)
        )
        column = torch.arange(most, device=flat.device)
        row = (first + column).clamp(max=len(flat) - 1)
        return cls(flat[row], names[row], column < number)


def assign(
    assigner: MaxIoUAssigner, truth: PaddedBoxes, anchors: Tensor, used: Tensor
) -> Tensor:
    """Assign anchors as :class:`MaxIoUAssigner` does, image by image.

    Args:
        assigner: Gives the thresholds.
        truth: True boxes.
        anchors: (A, 4) anchors of every image.
        used: (A,) bool, ``False`` for anchors that take no part.

    Returns:
        (B, A) long: -1 for neither, 0 for background, i + 1 for box i.
    """
    pairs = max(1, truth.real.shape[1] * len(anchors))
    step = max(1, MAX_PAIRS // pairs)
    parts = zip(
        truth.boxes.split(step), truth.real.split(step), strict=True
    )
    return torch.cat([_assign(assigner, *part, anchors, used) for part in parts])


def _assign(
    assigner: MaxIoUAssigner,
    boxes: Tensor,
    real: Tensor,
    anchors: Tensor,
    used: Tensor,
) -> Tensor:
    """:func:`assign` for (B, M, 4) boxes, (B, M) of them real."""
    outside = torch.where(used, 0, -1).expand(len(boxes), -1)
    if boxes.shape[1] == 0:
        return outside
    iou = assigner.iou_calculator(boxes, anchors.expand(len(boxes), -1, -1))
    iou.masked_fill_(~(real[..., None] & used), -1)  # (B, M, A)
    best, which = iou.max(dim=1)
    low = (best >= 0) & (best < assigner.neg_iou_thr)
    assigned = torch.where(low, 0, -1)
    high = best >= assigner.pos_iou_thr
    assigned = torch.where(high, which + 1, assigned)
    if assigner.match_low_quality:
        # of the boxes that an anchor is the best for, the last one counts
        of_box = iou.amax(dim=2, keepdim=True)
        of_box.masked_fill_(of_box < assigner.min_pos_iou, 2)  # matches none
        order = torch.arange(1, boxes.shape[1] + 1, device=boxes.device)
        last = (iou == of_box).mul(order[:, None]).amax(dim=1)
        assigned = torch.where(last > 0, last, assigned)
    return torch.where(real.any(dim=1, keepdim=True), assigned, outside)


@dataclass
class Sampled:
    """Anchors drawn in each image.

    Attributes:
        index: (B, K) long, A where fewer than K were drawn.
        counts: (B,) long, how many were drawn.
    """

    index: Tensor
    counts: Tensor


def sample(
    sampler: RandomSampler, assigned: Tensor
) -> tuple[Sampled, Sampled]:
    """Draw anchors as :class:`RandomSampler` does, image by image.

    Args:
        sampler: Gives the numbers.
        assigned: (B, A) of :func:`assign`.

    Returns:
        Positive and negative samples.
    """
    keys = torch.rand(assigned.shape, device=assigned.device)

    def draw(pool: Tensor, most: int, wanted: Callable) -> Sampled:
        most = min(most, pool.shape[1])
        first = keys.masked_fill(~pool, 2).topk(most, largest=False).indices
        counts = wanted(pool.sum(dim=1))
        slots = torch.arange(most, device=pool.device)
        spare = slots >= counts[:, None]
        return Sampled(first.masked_fill(spare, pool.shape[1]), counts)

    most = int(sampler.num * sampler.pos_fraction)
    positive = draw(assigned > 0, most, lambda have: have.clamp(max=most))

    def rest(have: Tensor) -> Tensor:
        wanted = sampler.num - positive.counts
        if sampler.neg_pos_ub >= 0:
            bound = sampler.neg_pos_ub * positive.counts.clamp(min=1)
            wanted = torch.minimum(wanted, bound.long())
        return torch.minimum(have, wanted)

    return positive, draw(assigned == 0, sampler.num, rest)
