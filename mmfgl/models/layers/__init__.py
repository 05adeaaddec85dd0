"""Layers: region Transformer and position embedding of boxes."""

from .masked_attention import GeometryBias, MaskedAttention
from .position_embedding import BoxPositionEmbedding
from .region_transformer import RegionBlock, RegionTransformer
from .roi_pool import DeviceRoIPool, roi_pool_cpu

__all__ = [
    'BoxPositionEmbedding',
    'DeviceRoIPool',
    'GeometryBias',
    'MaskedAttention',
    'RegionBlock',
    'RegionTransformer',
    'roi_pool_cpu',
]
