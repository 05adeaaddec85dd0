"""Score the same RoIs in several passes through the RoI head.

Shape shorthand: P passes, B images, R RoIs of one image, C classes, K boxes an
RoI.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.models.test_time_augs.fusion import Evidence, with_fallback
from mmfgl.models.test_time_augs.passes import Pass
from mmfgl.models.test_time_augs.views import View


@contextmanager
def shifted_levels(roi_head: nn.Module, shift: int | str) -> Iterator[None]:
    """Let the RoI extractors pool from other levels than the RoIs' own.

    Args:
        roi_head: Its ``bbox_roi_extractor`` and ``mask_roi_extractor`` are
            moved inside the context and restored after it, come what may.
        shift: See :class:`Pass`; positive goes to coarser levels.
    """
    names = ('bbox_roi_extractor', 'mask_roi_extractor')
    found = [getattr(roi_head, name, None) for name in names]
    # the mask branch may share the extractor of the box branch
    extractors = {id(e): e for e in found if e is not None and shift}
    for extractor in extractors.values():
        extractor.map_roi_levels = partial(
            _moved_levels,
            extractor.map_roi_levels,
            extractor.finest_scale,
            shift,
        )
    try:
        yield
    finally:
        for extractor in extractors.values():
            del extractor.map_roi_levels


def _moved_levels(
    map_roi_levels: Callable,
    finest_scale: float,
    shift: int | str,
    rois: Tensor,
    num_levels: int,
    clamp: bool = True,
) -> Tensor:
    """(R,) levels, moved by ``shift``."""
    own = map_roi_levels(rois, num_levels)
    if shift == 'nearest':
        place = _level_place(rois, own, finest_scale)
        shift = torch.where(place - own < 0.5, -1, 1)
    levels = own + shift
    return levels.clamp(0, num_levels - 1) if clamp else levels


def _level_place(rois: Tensor, own: Tensor, finest_scale: float) -> Tensor:
    """(R,) places of (R, 5) RoIs on a scale where level k is [k, k + 1].

    RoIs too small or too large for the pyramid stand at its ends.
    """
    sides = (rois[:, 3:5] - rois[:, 1:3]).float().clamp(min=0)
    place = torch.log2(sides.prod(dim=1).sqrt() / finest_scale + 1e-6)
    return torch.minimum(torch.maximum(place, own.float()), own + 1.0)


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
        sides = (seen[:, 2:] - seen[:, :2]).clamp(min=0)
        size = sides.prod(dim=1).sqrt()
        row = row * ((size >= low) & (size <= high))
        if p.shift or p.linear:
            row = row * _level_weights(p, seen, extractor)
        rows.append(row)
    return with_fallback(torch.stack(rows))


def _level_weights(p: Pass, boxes: Tensor, extractor: nn.Module) -> Tensor:
    """(R,) weights in [0, 1] of the level that a pass reads RoIs from."""
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    own = extractor.map_roi_levels(rois, extractor.num_inputs)
    level = _moved_levels(
        extractor.map_roi_levels,
        extractor.finest_scale,
        p.shift,
        rois,
        extractor.num_inputs,
        clamp=False,
    )
    exists = (level >= 0) & (level < extractor.num_inputs)
    if not p.linear:
        return exists.float()
    place = _level_place(rois, own, extractor.finest_scale)
    return exists * (1 - (place - level - 0.5).abs()).clamp(min=0)


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
