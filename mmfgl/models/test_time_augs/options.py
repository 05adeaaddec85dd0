"""Options of RoI test-time augmentation, checked once when it is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import Any

_CHOICES = dict(
    mode=('views', 'pyramid'),
    proposals=('scales', 'reference', 'merged'),
    score_fusion=('mean', 'weighted', 'max'),
    box_fusion=('score_weighted', 'voting', 'reference'),
    mask_fusion=('mean', 'reference'),
)
_REFERENCES = ('median', 'smallest', 'largest')
_TTA_CFG_KEYS = {'score_thr', 'nms', 'max_per_img'}


@dataclass
class RoITTAOptions:
    """Options of :class:`RoITTAModel`.

    None of them depends on the order of the views: a scale is named by its
    rank, smallest first.

    Args:
        mode: ``'views'`` runs the backbone on every view; ``'pyramid'`` runs
            it on the reference view alone and pools RoIs from other pyramid
            levels too (other views are not read).
        proposals: ``'scales'`` runs the RPN once a scale, on the views that
            are flipped as the reference is, and merges the boxes with the
            RPN's own NMS settings; ``'merged'`` runs it on every view;
            ``'reference'`` on the reference view alone. Boxes that are no
            RPN's (no RPN, or ``proposals`` in the data) are always those of
            the reference view.
        score_fusion: How the class probabilities of an RoI are fused:
            ``'mean'``, ``'weighted'`` (by ``scale_weights`` and
            ``flip_weight``) or ``'max'``.
        box_fusion: How the boxes of an RoI are fused: ``'score_weighted'``
            mean; ``'voting'``, the same mean over the views that agree (IoU
            of at least ``vote_iou``) with the best supported box, so that a
            stray view is left out; ``'reference'``, the reference view's box.
        mask_fusion: Mask probabilities of the final boxes: ``'mean'`` over
            the views, or those of the ``'reference'`` view alone, which also
            works for RoI heads with an own ``predict_mask``.
        reference: The view whose frame the RoIs live in, among the unflipped
            ones if there are any: the ``'median'`` scale (the larger of the
            middle two), ``'smallest'``, ``'largest'``, or a size (width,
            height) as in ``Resize(scale=..., keep_ratio=True)``, which means
            the view nearest in area.
        scale_weights: One weight a scale, smallest scale first (with
            ``mode='pyramid'``: one a level shift, in the order of
            ``level_shifts``). For ``score_fusion='weighted'``.
        flip_weight: Factor on the weight of flipped views. For
            ``score_fusion='weighted'``.
        size_ranges: RoIs that count in a view by their size, the square root
            of their area in pixels *of that view*: one (low, high) for all
            views, or one pair a scale, smallest scale first. ``None`` as low
            or high means no limit. An RoI that fits no view counts in the
            reference view.
        level_shifts: Pyramid levels to pool from. ``'nearest'`` interpolates
            linearly between an RoI's own level and the next nearest by size:
            an RoI on the border of two levels is read from both alike, one
            in the middle of a level from that one alone. A list names levels
            relative to the own one and must hold 0; they count alike, or by
            ``scale_weights``. A level that does not exist is left out. For
            ``mode='pyramid'``.
        neighbour_iou: A box that NMS keeps moves to the mean of all boxes of
            its class with at least this IoU, weighted by their scores (box
            voting, arXiv 1505.01749). ``None`` leaves it where it is. With a
            single view or level the box head's own ``neighbour_iou`` holds,
            if it has one.
        rescore_thr: RoIs whose best class probability in the reference view
            is below this keep it and are not pooled again, which saves most
            of the RoI head's time. Heads whose RoIs read each other then see
            the remaining ones only. 0 scores every RoI everywhere.
        vote_iou: See ``box_fusion``.
        stack_views: Run views of equal size (flips) through the backbone as
            one batch, which needs more memory and helps on an accelerator
            alone. ``None`` does so there and not on a CPU.
        tta_cfg: Replaces ``score_thr``, ``nms`` or ``max_per_img`` of the
            detector's ``test_cfg.rcnn``.
        rescale: Return boxes in original pixels (as detectors do) rather
            than in network-input pixels of the unflipped reference view.

    Raises:
        ValueError: If an option is out of range or contradicts another; the
            message says what to change.
    """

    mode: str = 'views'
    proposals: str = 'scales'
    score_fusion: str = 'mean'
    box_fusion: str = 'score_weighted'
    mask_fusion: str = 'mean'
    reference: str | Sequence[int] = 'median'
    scale_weights: Sequence[float] | None = None
    flip_weight: float = 1.0
    size_ranges: Sequence[Any] | None = None
    level_shifts: str | Sequence[int] = 'nearest'
    neighbour_iou: float | None = 0.75
    rescore_thr: float = 0.1
    vote_iou: float = 0.65
    stack_views: bool | None = None
    tta_cfg: dict | None = None
    rescale: bool = True

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f'{name} must be one of {choices}, got '
                    f'{getattr(self, name)!r}'
                )
        self._check_reference()
        self._check_weights()
        self._check_numbers()
        if self.size_ranges is not None:
            self.size_ranges = _parse_ranges(self.size_ranges)
            if self.mode == 'pyramid':
                raise ValueError(
                    "size_ranges belong to mode='views': in mode='pyramid' "
                    'there is one view'
                )

    def _check_reference(self) -> None:
        ref = self.reference
        if isinstance(ref, str):
            valid = ref in _REFERENCES
        else:
            valid = len(ref) == 2 and all(
                isinstance(side, Real) and side > 0 for side in ref
            )
        if not valid:
            raise ValueError(
                f'reference must be one of {_REFERENCES} or a size '
                f'(width, height), got {ref!r}'
            )

    def _check_weights(self) -> None:
        if self.score_fusion == 'weighted':
            if self.scale_weights is None and self.flip_weight == 1:
                raise ValueError(
                    "score_fusion='weighted' needs scale_weights or a "
                    "flip_weight other than 1; without them use 'mean'"
                )
        elif self.scale_weights is not None or self.flip_weight != 1:
            raise ValueError(
                'scale_weights and flip_weight need '
                f"score_fusion='weighted', got {self.score_fusion!r}"
            )
        weights = [self.flip_weight, *(self.scale_weights or ())]
        if min(weights) < 0 or sum(self.scale_weights or [1]) <= 0:
            raise ValueError(
                'scale_weights and flip_weight must be >= 0 and some scale '
                f'must count, got {self.scale_weights}, {self.flip_weight}'
            )

    def _check_numbers(self) -> None:
        shifts = self.level_shifts
        if shifts != 'nearest' and (
            isinstance(shifts, str)
            or 0 not in shifts
            or len(set(shifts)) < len(shifts)
        ):
            raise ValueError(
                "level_shifts must be 'nearest' or a list that holds 0 and "
                f'no shift twice, got {shifts!r}'
            )
        if (
            self.mode == 'pyramid'
            and self.scale_weights is not None
            and (shifts == 'nearest' or len(self.scale_weights) != len(shifts))
        ):
            raise ValueError(
                "mode='pyramid' needs a list of level_shifts and one weight "
                f'in scale_weights for each, got {shifts!r} and '
                f'{self.scale_weights}'
            )
        if not 0 <= self.rescore_thr < 1 or not 0 <= self.vote_iou <= 1:
            raise ValueError(
                'rescore_thr must lie in [0, 1) and vote_iou in [0, 1], got '
                f'{self.rescore_thr} and {self.vote_iou}'
            )
        if self.neighbour_iou is not None and not 0 < self.neighbour_iou <= 1:
            raise ValueError(
                'neighbour_iou must lie in (0, 1] or be None, got '
                f'{self.neighbour_iou}'
            )
        unknown = set(self.tta_cfg or {}) - _TTA_CFG_KEYS
        if unknown:
            raise ValueError(
                f'tta_cfg takes {sorted(_TTA_CFG_KEYS)}, got also '
                f'{sorted(unknown)}'
            )


def _parse_ranges(ranges: Sequence[Any]) -> list[tuple[float, float]]:
    """One (low, high) or a list of them -> list of checked pairs."""
    if any(r is None or isinstance(r, Real) for r in ranges):
        ranges = [ranges]
    parsed = []
    for pair in ranges:
        if len(pair) != 2:
            raise ValueError(
                'size_ranges must be one (low, high) or one pair a scale, '
                f'got {list(ranges)}'
            )
        low = 0.0 if pair[0] is None else float(pair[0])
        high = inf if pair[1] is None else float(pair[1])
        if not 0 <= low < high:
            raise ValueError(f'size range {tuple(pair)} is empty')
        parsed.append((low, high))
    return parsed
