"""Layers: region Transformer and position embedding of boxes."""

from .position_embedding import BoxPositionEmbedding
from .region_transformer import MaskedAttention, RegionBlock, RegionTransformer

__all__ = [
    'BoxPositionEmbedding',
    'MaskedAttention',
    'RegionBlock',
    'RegionTransformer',
]
