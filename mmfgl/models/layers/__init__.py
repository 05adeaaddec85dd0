"""Layers: region Transformer and position embedding of boxes."""

from .attention_mask import (
    close_leaks,
    diagonal,
    iou_attention_mask,
    log_geometry,
)
from .box_voting import vote_neighbours
from .boxes import (
    border_overlap,
    box_area,
    finite_boxes,
    has_area,
    normalise_boxes,
    pairwise_iou,
)
from .masked_attention import GeometryBias, MaskedAttention
from .position_embedding import BoxPositionEmbedding
from .region_transformer import RegionTransformer
from .roi_levels import (
    level_positions,
    pool_levels,
    readable_levels,
    roi_levels,
)
from .roi_pool import DeviceRoIPool

__all__ = [
    'BoxPositionEmbedding',
    'DeviceRoIPool',
    'GeometryBias',
    'MaskedAttention',
    'RegionTransformer',
    'border_overlap',
    'box_area',
    'close_leaks',
    'diagonal',
    'finite_boxes',
    'has_area',
    'iou_attention_mask',
    'level_positions',
    'log_geometry',
    'normalise_boxes',
    'pairwise_iou',
    'pool_levels',
    'readable_levels',
    'roi_levels',
    'vote_neighbours',
]
