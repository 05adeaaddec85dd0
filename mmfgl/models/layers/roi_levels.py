"""Which pyramid level a RoI is pooled from, and levels fit for pooling.

Shape shorthand: B images, R RoIs, C channels, L levels, level k with sides
H_k, W_k.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def readable_levels(feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Pyramid levels as mmcv's RoI operators read them correctly.

    On a GPU they know no bf16, and those for CPUs read channels-last memory
    in the wrong order. fp16 maps are cast too: mmdet's RoI extractor gives
    the RoIs the dtype of its maps, and the area of an fp16 box overflows
    above 256 x 256 pixels, which moves it to another level.

    Returns:
        The levels, (B, C, H_k, W_k) fp32 and contiguous; those that are
        already are no copies.
    """
    return tuple(level.float().contiguous() for level in feats)


def level_positions(rois: Tensor, finest_scale: float) -> Tensor:
    """Where (R, 5) RoIs stand on the scale of levels, by size: (R,) fp32.

    A RoI of ``finest_scale * 2 ** p`` pixels stands at p (arXiv 1612.03144);
    level k is meant for positions in [k, k + 1). Boxes with negative sides
    count as empty.
    """
    sides = (rois[:, 3:5].float() - rois[:, 1:3].float()).clamp(min=0)
    return (sides.prod(dim=1).sqrt() / finest_scale + 1e-6).log2()


def roi_levels(
    rois: Tensor,
    num_levels: int,
    finest_scale: float,
    level_shift: int | str = 0,
) -> Tensor:
    """Map RoIs to pyramid levels as mmdet does, in fp32, and move them.

    Moved levels stay in the pyramid.

    Args:
        rois: (R, 5) rows (image index, x1, y1, x2, y2), network-input
            pixels.
        num_levels: Number L of levels.
        finest_scale: See :class:`mmdet.models.SingleRoIExtractor`.
        level_shift: Levels to move by (positive: coarser), or ``'nearest'``:
            to the level that is second nearest to the RoI's size.

    Returns:
        (R,) long levels.
    """
    positions = level_positions(rois, finest_scale)
    levels = positions.floor().clamp(0, num_levels - 1)
    if level_shift == 'nearest':
        level_shift = torch.where(positions - levels < 0.5, -1, 1)
    return (levels.long() + level_shift).clamp(0, num_levels - 1)


def pool_levels(
    layers: Sequence[nn.Module],
    feats: Sequence[Tensor],
    rois: Tensor,
    own: Tensor,
) -> Tensor:
    """Pool each RoI from its own level, as a graph that can be traced.

    How many RoIs a level gets is data of the graph, never a constant; in
    eager mode that makes the host wait for a GPU once a level. Each level
    pools a row more, for mmcv's kernel of a GPU refuses to pool none.

    Args:
        layers: RoI layer of each level.
        feats: The levels, each (B, C, H_k, W_k).
        rois: (R, 5) RoIs, network-input pixels.
        own: (R,) long levels.

    Returns:
        (R, C, S, S) features.
    """
    rows = [(own == k).nonzero().squeeze(1) for k in range(len(feats))]
    more = rois.new_zeros(1, rois.shape[1])
    pooled = [
        layer(level, torch.cat([rois[members], more]))[:-1]
        for layer, level, members in zip(layers, feats, rows, strict=True)
    ]
    return torch.cat(pooled)[torch.cat(rows).argsort()]
