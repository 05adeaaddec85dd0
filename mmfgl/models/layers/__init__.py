"""Layers: region Transformer and position embedding of boxes."""

from .position_embedding import BoxPositionEmbedding
from .region_transformer import MaskedAttention, RegionBlock, RegionTransformer
from .roi_pool import DeviceRoIPool, roi_pool_cpu

__all__ = [
    'BoxPositionEmbedding',
    'DeviceRoIPool',
    'MaskedAttention',
    'RegionBlock',
    'RegionTransformer',
    'roi_pool_cpu',
]
