"""Box heads."""

from .fgl_bbox_head import FGLBBoxHead

__all__ = ['FGLBBoxHead']
