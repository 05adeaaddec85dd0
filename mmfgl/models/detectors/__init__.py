"""Detectors."""

from .fgl_faster_rcnn import FGLFasterRCNN

__all__ = ['FGLFasterRCNN']
