"""RoI heads: extractor, tokenizer, FGL RoI head and box head."""

from .fgl_bbox_head import FGLBBoxHead
from .fgl_roi_extractor import FGLRoIExtractor
from .fgl_roi_head import FGLRoIHead
from .region_tokenizer import RegionTokenizer
from .scene import Scene

__all__ = [
    'FGLBBoxHead',
    'FGLRoIExtractor',
    'FGLRoIHead',
    'RegionTokenizer',
    'Scene',
]
