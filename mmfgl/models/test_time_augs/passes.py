"""What to look at the RoIs with: views and pyramid levels."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from mmfgl.models.test_time_augs.options import RoITTAOptions
from mmfgl.models.test_time_augs.views import View, ViewBatch, scale_ranks


@dataclass
class Pass:
    """One way of looking at the RoIs: a view and a pyramid level.

    Attributes:
        batch: The views to pool from.
        weights: Weight of the pass for each of the B images.
        ranges: (low, high) RoI sizes in pixels of the view, for each image.
        shift: Pyramid levels to move by, or ``'nearest'``: to the second
            nearest level by RoI size.
        linear: Weigh the level by its distance from the RoI's size.
    """

    batch: ViewBatch
    weights: list[float]
    ranges: list[tuple[float, float]]
    shift: int | str = 0
    linear: bool = False

    @classmethod
    def of_shift(
        cls,
        batch: ViewBatch,
        shift: int | str,
        weight: float = 1.0,
        linear: bool = False,
    ) -> 'Pass':
        """A pass of mode 'pyramid', open to RoIs of any size."""
        count = len(batch.views)
        return cls(
            batch, [weight] * count, [(0.0, inf)] * count, shift, linear
        )


def plan_passes(
    batches: Sequence[ViewBatch], options: RoITTAOptions
) -> list[Pass]:
    """Plan the passes through the RoI head.

    Args:
        batches: The views of a batch, reference first.
        options: Which mode, and what counts how much.

    Returns:
        The passes, reference first.

    Raises:
        ValueError: If values per scale do not fit the number of scales.
    """
    weights = options.scale_weights
    if options.mode == 'pyramid':
        shifts = options.level_shifts
        if shifts == 'nearest':
            return [
                Pass.of_shift(batches[0], shift, linear=True)
                for shift in (0, 'nearest')
            ]
        weighed = list(zip(shifts, weights or [1.0] * len(shifts)))
        weighed.sort(key=lambda pair: (abs(pair[0]), pair[0]))
        return [Pass.of_shift(batches[0], *pair) for pair in weighed]
    passes = [Pass(batch, [], []) for batch in batches]
    for image in range(len(batches[0].views)):
        views = [batch.views[image] for batch in batches]
        per_view = _per_scale(views, weights, 'scale_weights', 1.0)
        ranges = _per_scale(
            views, options.size_ranges, 'size_ranges', (0.0, inf)
        )
        for p, view, weight, limits in zip(
            passes, views, per_view, ranges, strict=True
        ):
            flip = options.flip_weight if view.flip else 1.0
            p.weights.append(weight * flip)
            p.ranges.append(limits)
    return passes


def _per_scale(
    views: list[View], values: Any, name: str, default: Any
) -> list:
    """The value of each view, from one value a scale or one for all."""
    if values is None:
        return [default] * len(views)
    if name == 'size_ranges' and len(values) == 1:
        return list(values) * len(views)
    ranks = scale_ranks(views)
    if max(ranks) + 1 != len(values):
        raise ValueError(
            f'{name} has {len(values)} entries and tta_pipeline '
            f'{max(ranks) + 1} scales: give one a scale, smallest first'
        )
    return [values[rank] for rank in ranks]
