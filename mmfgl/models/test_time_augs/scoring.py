"""Score the same RoIs in several passes through the RoI head.

Shape shorthand: P passes, B images, R RoIs of one image, C classes, K boxes an
RoI.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .fusion import Evidence, with_fallback
from .views import View, ViewBatch


@dataclass
class Pass:
    """One way of looking at the RoIs: a view and a pyramid level.

    Attributes:
        batch: The views to pool from.
        weights: Weight of the pass for each of the B images.
        ranges: (low, high) RoI sizes in pixels of the view, for each image.
        shift: Pyramid levels to move by.
    """

    batch: ViewBatch
    weights: list[float]
    ranges: list[tuple[float, float]]
    shift: int = 0

    @classmethod
    def of_shift(cls, batch: ViewBatch, weight: float, shift: int) -> 'Pass':
        """A pass of mode 'pyramid', open to RoIs of any size."""
        count = len(batch.views)
        return cls(batch, [weight] * count, [(0.0, inf)] * count, shift)


@contextmanager
def shifted_levels(roi_head: nn.Module, shift: int) -> Iterator[None]:
    """Let the RoI extractors pool from levels moved by ``shift``.

    Args:
        roi_head: Its ``bbox_roi_extractor`` and ``mask_roi_extractor`` are
            moved inside the context and restored after it, come what may.
        shift: Number of levels; positive goes to coarser ones.
    """
    names = ('bbox_roi_extractor', 'mask_roi_extractor')
    found = [getattr(roi_head, name, None) for name in names]
    # the mask branch may share the extractor of the box branch
    extractors = {id(e): e for e in found if e is not None and shift}
    for extractor in extractors.values():
        extractor.map_roi_levels = partial(
            _moved_levels, extractor.map_roi_levels, shift
        )
    try:
        yield
    finally:
        for extractor in extractors.values():
            del extractor.map_roi_levels


def _moved_levels(
    map_roi_levels: Callable, shift: int, rois: Tensor, num_levels: int
) -> Tensor:
    levels = map_roi_levels(rois, num_levels) + shift
    return levels.clamp(0, num_levels - 1)


def roi_weights(
    passes: Sequence[Pass],
    boxes: Tensor,
    frame: View,
    image: int,
    extractor: nn.Module,
) -> Tensor:
    """How much each pass counts for each box of an image.

    Args:
        passes: The passes, reference first.
        boxes: (R, 4) boxes in pixels of ``frame``.
        frame: Frame of the boxes.
        image: Index of the image in the batch.
        extractor: RoI extractor that maps boxes to levels.

    Returns:
        (P, R) weights: that of the pass, or 0 where the box is out of its
        size range or moved off the pyramid. Boxes that no pass counts go to
        the reference.
    """
    rows = []
    for p in passes:
        seen = frame.to(boxes, p.batch.views[image]).float()
        row = seen.new_full((len(seen),), p.weights[image])
        low, high = p.ranges[image]
        if (low, high) != (0, inf):
            sides = (seen[:, 2:] - seen[:, :2]).clamp(min=0)
            size = sides.prod(dim=1).sqrt()
            row = row * ((size >= low) & (size <= high))
        if p.shift:
            rois = torch.cat([torch.zeros_like(seen[:, :1]), seen], dim=1)
            levels = extractor.map_roi_levels(rois, extractor.num_inputs)
            levels = levels + p.shift
            row = row * ((levels >= 0) & (levels < extractor.num_inputs))
        rows.append(row)
    return with_fallback(torch.stack(rows))


def score_rois(
    roi_head: StandardRoIHead,
    passes: Sequence[Pass],
    proposals: Sequence[InstanceData],
    frames: Sequence[View],
    rescore_thr: float = 0.0,
) -> list[Evidence]:
    """Score every RoI in every pass.

    The attention mask of heads that have one is computed once. RoIs that do
    not count in a pass are not pooled in it, except by such heads, whose RoIs
    are each other's context.

    Args:
        roi_head: The RoI head.
        passes: The passes, reference first.
        proposals: Proposals of each image, ``bboxes`` in pixels of its frame.
        frames: Frame of each image: the reference view, unflipped.
        rescore_thr: See :class:`RoITTAOptions`.

    Returns:
        The evidence on each image.
    """
    masks: list[Tensor] | None = None
    if hasattr(roi_head, 'attention_masks'):
        metas = passes[0].batch.metas
        masks = roi_head.attention_masks(list(proposals), metas)
    every = [
        torch.ones(len(p), dtype=torch.bool, device=p.bboxes.device)
        for p in proposals
    ]
    score = partial(_score_pass, roi_head, proposals, masks, frames)
    first = score(passes[0], every)
    evidence, keeps = [], []
    for image, (result, prop) in enumerate(zip(first, proposals)):
        weights = roi_weights(
            passes,
            prop.bboxes,
            frames[image],
            image,
            roi_head.bbox_roi_extractor,
        )
        keep = result.scores[:, :-1].amax(1) >= rescore_thr
        weights[1:] *= keep
        keeps.append(keep)
        evidence.append(
            Evidence(
                # a copy each: passes fill in the rows they score
                result.bboxes.repeat(len(passes), 1, 1),
                result.scores.repeat(len(passes), 1, 1),
                weights,
            )
        )
    for index, p in enumerate(passes[1:], start=1):
        rows = keeps if masks else [e.weights[index] > 0 for e in evidence]
        if not any(bool(r.any()) for r in rows):
            continue
        for e, row, result in zip(evidence, rows, score(p, rows)):
            if row.any():
                e.boxes[index, row] = result.bboxes.to(e.boxes)
                e.scores[index, row] = result.scores.to(e.scores)
    for e in evidence:
        # a head that does not answer an RoI says so with zeros: it abstains
        e.weights = with_fallback(
            e.weights * (e.scores[..., :-1].amax(-1) > 0)
        )
    return evidence


def _score_pass(
    roi_head: StandardRoIHead,
    proposals: Sequence[InstanceData],
    masks: Sequence[Tensor] | None,
    frames: Sequence[View],
    p: Pass,
    rows: Sequence[Tensor],
) -> list[InstanceData]:
    """Raw boxes (in the frames) and scores of the chosen RoIs of a pass."""
    seen = []
    for image, (prop, row) in enumerate(zip(proposals, rows, strict=True)):
        # an index of all rows would copy, but change nothing
        chosen = prop if row.all() else prop[row]
        fields = dict(chosen.items())
        fields['bboxes'] = frames[image].to(
            chosen.bboxes, p.batch.views[image]
        )
        seen.append(InstanceData(**fields))
        if masks is not None:
            seen[-1].attention_mask = masks[image][row][:, row]
    with shifted_levels(roi_head, p.shift):
        results = roi_head.predict_bbox(
            p.batch.feats, p.batch.metas, seen, rcnn_test_cfg=None
        )
    for image, (result, given) in enumerate(zip(results, seen, strict=True)):
        if result.scores.dim() != 2 or len(result.scores) != len(given):
            raise ValueError(
                f'{type(roi_head).__name__}.predict_bbox(rcnn_test_cfg=None) '
                f'must give one row of scores a proposal: {len(given)} '
                f'proposals gave scores of {tuple(result.scores.shape)}'
            )
        result.bboxes = p.batch.views[image].to(result.bboxes, frames[image])
    return results
