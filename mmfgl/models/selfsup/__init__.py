"""Self-supervised pretraining; the one part that imports mmpretrain."""

from .batch_color_augment import BatchColorAugment
from .plain_region_head import PlainRegionHead
from .region_encoding import encode_regions
from .region_projector import RegionProjector
from .retod import ReToD
from .retod_head import ReToDHead
from .teachers import EMATeacher

__all__ = [
    'BatchColorAugment',
    'EMATeacher',
    'PlainRegionHead',
    'ReToD',
    'ReToDHead',
    'RegionProjector',
    'encode_regions',
]
