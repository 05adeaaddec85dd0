"""Test-time augmentation."""

from .options import RoITTAOptions
from .roi_tta import RoITTAModel
from .views import View

__all__ = ['RoITTAModel', 'RoITTAOptions', 'View']
