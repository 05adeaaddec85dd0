"""Teachers of the pretraining."""

from .ema_teacher import EMATeacher
from .frozen_teacher import FrozenTeacher
from .image_features import ImageFeatures
from .region_teacher import RegionTeacher

__all__ = ['EMATeacher', 'FrozenTeacher', 'ImageFeatures', 'RegionTeacher']
