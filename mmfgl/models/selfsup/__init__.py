"""Self-supervised pretraining; the one part that imports mmpretrain."""

from .ema_teacher import EMATeacher
from .region_projector import RegionProjector
from .retod import ReToD
from .retod_head import ReToDHead

__all__ = ['EMATeacher', 'ReToD', 'ReToDHead', 'RegionProjector']
