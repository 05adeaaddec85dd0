"""Self-supervised pretraining; the one part that imports mmpretrain."""

from .ema_teacher import EMATeacher
from .plain_region_head import PlainRegionHead
from .region_projector import RegionProjector
from .retod import ReToD
from .retod_head import ReToDHead

__all__ = [
    'EMATeacher',
    'PlainRegionHead',
    'ReToD',
    'ReToDHead',
    'RegionProjector',
]
