"""RoI heads: extractor, tokenizer, FGL RoI head and box head."""

from .bbox_heads import FGLBBoxHead
from .fgl_roi_head import FGLRoIHead
from .region_tokenizer import RegionTokenizer
from .roi_context import RoIContext
from .roi_extractors import FGLRoIExtractor

__all__ = [
    'FGLBBoxHead',
    'FGLRoIExtractor',
    'FGLRoIHead',
    'RegionTokenizer',
    'RoIContext',
]
