"""Assignment and sampling for all images of a batch at once.

mmdet's assigner and sampler go image by image, and a GPU waits for the host
as they do. The rules here are theirs.

Shape shorthand: B images, M true boxes of the image that has most, A priors
(anchors or proposals) of the image that has most, K samples of an image. Boxes
are in network-input pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from mmdet.models.task_modules import (
    BaseAssigner,
    BaseSampler,
    BboxOverlaps2D,
    MaxIoUAssigner,
    RandomSampler,
    SamplingResult,
)
from mmengine.structures import InstanceData
from torch import Tensor

# Pairs of a true box and a prior compared at once: few enough for the cache of
# a CPU, many enough for a GPU.
MAX_PAIRS = dict(cpu=2**18, cuda=2**22)


def can_batch(
    assigner: object, sampler: object, truths: Sequence[InstanceData]
) -> bool:
    """Whether this module knows all that an assigner and a sampler do."""
    return (
        type(assigner) is MaxIoUAssigner
        and type(assigner.iou_calculator) is BboxOverlaps2D
        and assigner.iou_calculator.dtype is None
        and isinstance(assigner.neg_iou_thr, float)
        and assigner.pos_iou_thr > 0
        and assigner.min_pos_iou >= 0
        and assigner.gt_max_assign_all
        and assigner.ignore_iof_thr <= 0
        and assigner.gpu_assign_thr <= 0
        and assigner.perm_repeat_gt_cfg is None
        and type(sampler) is RandomSampler
        and all(isinstance(truth.bboxes, Tensor) for truth in truths)
    )


@dataclass
class Padded:
    """Rows of all images, as many for each.

    Attributes:
        rows: (B, M, ...), M >= 1; those past an image's own are others' or 0.
        real: (B, M) bool, ``False`` there.
    """

    rows: Tensor
    real: Tensor

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> 'Padded':
        """Of one (M_b, ...) tensor an image."""
        counts = [len(part) for part in parts]
        if counts[0] and len(set(counts)) == 1:
            rows = torch.stack(list(parts))
            return cls(rows, rows.new_ones(rows.shape[:2], dtype=torch.bool))
        spare = parts[0].new_zeros(1, *parts[0].shape[1:])
        flat = torch.cat([*parts, spare])
        number = torch.tensor(counts)
        layout = torch.stack([number, number.cumsum(0) - number])
        count, first = layout.to(flat.device, non_blocking=True)[..., None]
        column = torch.arange(max(1, *counts), device=flat.device)
        row = (first + column).clamp(max=len(flat) - 1)
        return cls(flat[row], column < count)


def assign(
    assigner: MaxIoUAssigner, truth: Padded, priors: Tensor, used: Tensor
) -> Tensor:
    """Assign priors as :class:`MaxIoUAssigner` does.

    Args:
        assigner: Gives the thresholds.
        truth: (B, M, 4) true boxes.
        priors: (B, A, 4).
        used: (B, A) bool, ``False`` for priors that take no part.

    Returns:
        (B, A) long: -1 for neither, 0 for background, i + 1 for box i.
    """
    pairs = truth.rows.shape[1] * priors.shape[1]
    most = MAX_PAIRS.get(priors.device.type, MAX_PAIRS['cpu'])
    step = max(1, most // pairs)
    tensors = (truth.rows, truth.real, priors, used)
    parts = zip(*(tensor.split(step) for tensor in tensors), strict=True)
    return torch.cat([_assign(assigner, *part) for part in parts])


def _assign(
    assigner: MaxIoUAssigner,
    boxes: Tensor,
    real: Tensor,
    priors: Tensor,
    used: Tensor,
) -> Tensor:
    """:func:`assign` for (B, M, 4) boxes, (B, M) of them real."""
    empty = used.long() - 1  # background, without any true box
    # without area they overlap nothing
    boxes = boxes.masked_fill(~real[..., None], 0)
    priors = priors.masked_fill(~used[..., None], 0)
    iou = assigner.iou_calculator(boxes, priors)  # (B, M, A)
    best, which = iou.max(dim=1)  # padding comes last and so never wins
    assigned = (best < assigner.neg_iou_thr).long() - 1
    high = best >= assigner.pos_iou_thr
    assigned = torch.where(high, which + 1, assigned)
    if assigner.match_low_quality:
        # of the boxes that a prior is the best for, the last one counts
        of_box = iou.amax(dim=2, keepdim=True)
        weak = (of_box < assigner.min_pos_iou) | ~real[..., None]
        order = torch.arange(1, boxes.shape[1] + 1, device=boxes.device)
        order = order.int()[:, None]
        last = (iou == of_box.masked_fill(weak, 2)).mul(order).amax(dim=1)
        assigned = torch.where(last > 0, last.long(), assigned)
    assigned = torch.where(real.any(dim=1, keepdim=True), assigned, empty)
    return assigned.masked_fill(~used, -1)


@dataclass
class Drawn:
    """Priors drawn in each image.

    Attributes:
        index: (B, K) long; A where fewer than K were drawn.
        counts: (B,) long, how many were drawn; they come first.
    """

    index: Tensor
    counts: Tensor


def random_keys(like: Tensor) -> Tensor:
    """One number in [0, 1) a prior; those of the smallest are drawn."""
    return torch.rand(like.shape, device=like.device)


def draw(sampler: RandomSampler, assigned: Tensor) -> tuple[Drawn, Drawn]:
    """Draw positive and negative priors as :class:`RandomSampler` does.

    Args:
        sampler: Gives the numbers.
        assigned: (B, A) of :func:`assign`.
    """
    keys = random_keys(assigned)

    def choose(pool: Tensor, most: int, wanted: Callable) -> Drawn:
        most = min(most, pool.shape[1])
        first = keys.masked_fill(~pool, 2).topk(most, largest=False).indices
        counts = wanted(pool.sum(dim=1))
        spare = torch.arange(most, device=pool.device) >= counts[:, None]
        return Drawn(first.masked_fill(spare, pool.shape[1]), counts)

    most = int(sampler.num * sampler.pos_fraction)
    positive = choose(assigned > 0, most, lambda have: have.clamp(max=most))

    def rest(have: Tensor) -> Tensor:
        wanted = sampler.num - positive.counts
        if sampler.neg_pos_ub >= 0:
            bound = sampler.neg_pos_ub * positive.counts.clamp(min=1)
            wanted = torch.minimum(wanted, bound.long())
        return torch.minimum(have, wanted)

    return positive, choose(assigned == 0, sampler.num, rest)


@torch.no_grad()
def sample_proposals(
    assigner: MaxIoUAssigner,
    sampler: RandomSampler,
    proposals: Sequence[Tensor],
    truths: Sequence[InstanceData],
) -> list[SamplingResult]:
    """Assign and sample the proposals of all images; one wait for a GPU.

    Args:
        assigner: An assigner and
        sampler: a sampler that :func:`can_batch` knows.
        proposals: (N_b, 4) boxes of each image.
        truths: ``bboxes`` (M_b, 4) and ``labels`` (M_b,) of each image.

    Returns:
        What the sampler returns for each image, without its (unused)
        ``avg_factor``.
    """
    truth = Padded.of([truth.bboxes for truth in truths])
    labels = Padded.of([truth.labels for truth in truths]).rows
    priors = Padded.of(proposals)
    boxes, added = priors.rows, 0
    assigned = assign(assigner, truth, boxes, priors.real)
    if sampler.add_gt_as_proposals:
        added = truth.rows.shape[1]
        own = torch.arange(1, added + 1, device=boxes.device)
        own = torch.where(truth.real, own, -1)
        assigned = torch.cat([own, assigned], dim=1)
        boxes = torch.cat([truth.rows, boxes], dim=1)
    positive, negative = draw(sampler, assigned)
    # in the order of the priors, as the sampler's
    order = [drawn.index.sort().values for drawn in (positive, negative)]
    width = order[0].shape[1]
    index = torch.cat(order, dim=1)  # (B, K)
    row = index.clamp(max=assigned.shape[1] - 1)
    image = torch.arange(len(row), device=row.device)[:, None]
    box = (assigned.gather(1, row[:, :width]) - 1).clamp(min=0)
    skipped = added - truth.real.sum(dim=1, keepdim=True) if added else 0
    drawn = dict(
        inds=torch.where(index < added, index, index - skipped),
        priors=boxes[image, row],
    )
    matched = dict(
        is_gt=(index[:, :width] < added).to(torch.uint8),
        assigned_gt_inds=box,
        gt_labels=labels.gather(1, box),
        gt_bboxes=truth.rows[image, box],
    )
    counts = torch.stack([positive.counts, negative.counts], dim=1).tolist()
    results = []
    for number, (num_pos, num_neg) in enumerate(counts):
        # not by its constructor, which would index image by image
        result = SamplingResult.__new__(SamplingResult)
        result.num_gts = len(truths[number])
        result.num_pos, result.num_neg = max(num_pos, 1), max(num_neg, 1)
        for key, values in drawn.items():
            ours = values[number]
            setattr(result, f'pos_{key}', ours[:num_pos])
            setattr(result, f'neg_{key}', ours[width : width + num_neg])
        for key, values in matched.items():
            setattr(result, f'pos_{key}', values[number, :num_pos])
        results.append(result)
    return results


def sample_rois(
    assigner: BaseAssigner,
    sampler: BaseSampler,
    proposals: Sequence[Tensor],
    truths: Sequence[InstanceData],
    ignored: Sequence[InstanceData | None],
    feats: Sequence[Tensor],
) -> list[SamplingResult]:
    """Assign and sample proposals: at once where that is known, or by image.

    Args:
        assigner: Any of mmdet's assigners.
        sampler: Any of mmdet's samplers that the RoI head takes.
        proposals: (N_b, 4) boxes of each image.
        truths: ``bboxes`` (M_b, 4) and ``labels`` (M_b,) of each image.
        ignored: ``bboxes`` to ignore of each image, or ``None``.
        feats: Levels, each (B, C, H_k, W_k), for samplers that look at them.
    """
    if can_batch(assigner, sampler, truths):
        return sample_proposals(assigner, sampler, proposals, truths)
    results = []
    for index, boxes in enumerate(proposals):
        priors = InstanceData(priors=boxes)
        assigned = assigner.assign(priors, truths[index], ignored[index])
        own = [level[index : index + 1] for level in feats]
        results.append(
            sampler.sample(assigned, priors, truths[index], feats=own)
        )
    # OHEM looks at losses without a graph: the casts of the weights that
    # autocast has kept of that would pass no gradient
    torch.clear_autocast_cache()
    return results
