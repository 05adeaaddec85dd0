"""RoI extractors."""

from .fgl_roi_extractor import FGLRoIExtractor

__all__ = ['FGLRoIExtractor']
