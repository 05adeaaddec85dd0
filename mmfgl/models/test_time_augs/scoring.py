"""Score the same RoIs in several views or from several pyramid levels.

Shape shorthand: V views (or levels), B images, R RoIs of one image, C classes,
K boxes an RoI.
"""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.models.layers import level_positions, roi_levels
from mmfgl.models.test_time_augs.fusion import Predictions
from mmfgl.models.test_time_augs.views import View, ViewBatch


def view_weights(views: Sequence[View], boxes: Tensor) -> Tensor:
    """Which views of an image each box is scored in.

    Views of the whole image count alike. A box that a slice shows whole, and
    larger than any of them, is scored there alone: in the slice that shows it
    largest, or in several if they show it alike.

    Args:
        views: The V views, reference first.
        boxes: (R, 4) boxes in pixels of the reference view.

    Returns:
        (V, R) weights, 1 or 0.
    """
    sliced = torch.tensor([view.is_slice for view in views]).to(boxes.device)
    zooms = boxes.new_tensor([view.zoom for view in views], dtype=torch.float)
    shown = torch.stack(
        [view.shows_whole(views[0].to(boxes, view)) for view in views]
    )
    enlarged = sliced & (zooms > zooms[~sliced].max())
    zooms = zooms[:, None] * (shown & enlarged[:, None])
    largest = zooms.amax(0)
    # views of one scale differ by the rounding of their sizes
    in_slice = zooms >= largest.clamp(min=1e-6) * 0.98
    return torch.where(largest > 0, in_slice, ~sliced[:, None]).float()


def level_weights(boxes: Tensor, extractor: nn.Module) -> Tensor:
    """How much a box's own level and the second nearest by size count.

    Linear interpolation: a box on the border of two levels is read from both
    alike, one in the middle of a level from that one alone. (R, 4) boxes in
    network-input pixels give (2, R) weights with sum 1.
    """
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
    pyramid = (extractor.num_inputs, extractor.finest_scale)
    own = roi_levels(rois, *pyramid)
    exists = roi_levels(rois, *pyramid, 'nearest') != own
    offset = level_positions(rois, extractor.finest_scale) - own
    share = (offset.clamp(0, 1) - 0.5).abs() * exists
    return torch.stack([1 - share, share])


def score_rois(
    roi_head: StandardRoIHead,
    batches: Sequence[ViewBatch],
    proposals: Sequence[InstanceData],
    rescore_thr: float,
) -> list[Predictions]:
    """Score the RoIs of every image in its views.

    The reference view scores all of them. The attention masks of heads that
    have one are computed once. RoIs that do not count in a view are not
    pooled in it, except by such heads, whose RoIs are each other's context.

    Args:
        roi_head: The RoI head.
        batches: The views, or the levels of one view; reference first.
        proposals: Proposals of each image, ``bboxes`` in pixels of its
            reference view.
        rescore_thr: See :class:`RoITTAModel`.
    """
    proposals = [prop.clone() for prop in proposals]
    mutual = hasattr(roi_head, 'attention_masks')
    if mutual:
        masks = roi_head.attention_masks(proposals, batches[0].metas)
        for prop, mask in zip(proposals, masks, strict=True):
            prop.attention_mask = mask
    frames = batches[0].views
    first = _score_view(roi_head, batches[0], frames, proposals)
    boxes = [[result.bboxes] for result in first]
    scores = [[result.scores] for result in first]
    weights = [
        _weights(roi_head, batches, image, prop.bboxes)
        for image, prop in enumerate(proposals)
    ]
    likely = [
        (result.scores[:, :-1].amax(1) >= rescore_thr) | (weight[0] == 0)
        for result, weight in zip(first, weights, strict=True)
    ]
    for index, batch in enumerate(batches[1:], start=1):
        rows = [weight[index] > 0 for weight in weights]
        if mutual:  # context is whatever the view shows whole
            rows = [
                view.shows_whole(frame.to(prop.bboxes, view))
                for prop, view, frame in zip(proposals, batch.views, frames)
            ]
        rows = [row & kept for row, kept in zip(rows, likely, strict=True)]
        chosen = [_choose(prop, row) for prop, row in zip(proposals, rows)]
        found = first
        if any(len(prop) for prop in chosen):
            found = _score_view(roi_head, batch, frames, chosen)
        for image, (result, row) in enumerate(zip(found, rows, strict=True)):
            boxes[image].append(_fill(boxes[image][0], row, result.bboxes))
            scores[image].append(_fill(scores[image][0], row, result.scores))
    return [
        _combined(torch.stack(b), torch.stack(s), weight, kept)
        for b, s, weight, kept in zip(
            boxes, scores, weights, likely, strict=True
        )
    ]


def _combined(
    boxes: Tensor, scores: Tensor, weights: Tensor, likely: Tensor
) -> Predictions:
    """Predictions of one image, of the RoIs that count in each view.

    Args:
        boxes: (V, R, K * 4) boxes.
        scores: (V, R, C + 1) scores.
        weights: (V, R) weights of the views, changed in place.
        likely: (R,) bool, what was scored again.
    """
    weights[1:] *= likely
    # a head that does not answer an RoI says so with zeros: it abstains
    weights *= scores[..., :-1].amax(-1) > 0
    # RoIs that count in no view are the reference's
    weights[0, weights.sum(0) <= 0] = 1
    return Predictions(boxes, scores, weights)


def _weights(
    roi_head: StandardRoIHead,
    batches: Sequence[ViewBatch],
    image: int,
    boxes: Tensor,
) -> Tensor:
    """(V, R) weights of the views, or of the levels, of one image."""
    if any(batch.level_shift for batch in batches):
        return level_weights(boxes, roi_head.bbox_roi_extractor)
    return view_weights([batch.views[image] for batch in batches], boxes)


def _choose(proposals: InstanceData, rows: Tensor) -> InstanceData:
    """The proposals in some rows, with what is left of their mask."""
    chosen = proposals[rows]
    if 'attention_mask' in chosen:
        chosen.attention_mask = chosen.attention_mask[:, rows]
    return chosen


def _fill(values: Tensor, rows: Tensor, new: Tensor) -> Tensor:
    """(R, ...) values with new ones in some rows."""
    values = values.clone()
    if rows.any():
        values[rows] = new.to(values)
    return values


def _score_view(
    roi_head: StandardRoIHead,
    batch: ViewBatch,
    frames: Sequence[View],
    proposals: Sequence[InstanceData],
) -> list[InstanceData]:
    """Raw boxes and scores, like the proposals in pixels of the frames."""
    given = [prop.clone() for prop in proposals]
    for prop, view, frame in zip(given, batch.views, frames, strict=True):
        prop.bboxes = frame.to(prop.bboxes, view)
    # heads other than FGLRoIHead know no shift
    shift = dict(level_shift=batch.level_shift) if batch.level_shift else {}
    results = roi_head.predict_bbox(
        batch.feats, batch.metas, given, rcnn_test_cfg=None, **shift
    )
    for result, prop, view, frame in zip(
        results, given, batch.views, frames, strict=True
    ):
        if result.scores.dim() != 2 or len(result.scores) != len(prop):
            raise ValueError(
                f'{type(roi_head).__name__}.predict_bbox(rcnn_test_cfg=None) '
                f'must give one row of scores a proposal: {len(prop)} '
                f'proposals gave scores of {tuple(result.scores.shape)}'
            )
        result.bboxes = view.to(result.bboxes, frame)
    return results
