"""Test-time augmentation."""

from .roi_tta import RoITTAModel
from .views import View

__all__ = ['RoITTAModel', 'View']
