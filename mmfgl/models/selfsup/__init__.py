"""Self-supervised pretraining; the one part that imports mmpretrain."""

from .backbone_distill import BackboneDistill
from .data_preprocessor import RegionDataPreprocessor
from .prototype_head import PrototypeHead
from .region_encoding import encode_regions, encode_views
from .region_projector import RegionProjector
from .retod import ReToD
from .task_context import TaskContext
from .tasks import (
    DenseDistillTask,
    DiversityTask,
    MaskedRegionTask,
    ObjectnessTask,
    PretrainingTask,
    RegionDistillTask,
)
from .teachers import EMATeacher, FrozenTeacher

__all__ = [
    'BackboneDistill',
    'DenseDistillTask',
    'DiversityTask',
    'EMATeacher',
    'FrozenTeacher',
    'MaskedRegionTask',
    'ObjectnessTask',
    'PretrainingTask',
    'RegionDataPreprocessor',
    'PrototypeHead',
    'ReToD',
    'RegionDistillTask',
    'RegionProjector',
    'TaskContext',
    'encode_regions',
    'encode_views',
]
