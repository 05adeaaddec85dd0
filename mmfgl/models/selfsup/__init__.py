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
    RegionEmbeddingTask,
)
from .teachers import (
    EMATeacher,
    FrozenTeacher,
    ImageFeatures,
    RegionTeacher,
)

__all__ = [
    'BackboneDistill',
    'DenseDistillTask',
    'DiversityTask',
    'EMATeacher',
    'FrozenTeacher',
    'ImageFeatures',
    'MaskedRegionTask',
    'ObjectnessTask',
    'PretrainingTask',
    'RegionDataPreprocessor',
    'PrototypeHead',
    'ReToD',
    'RegionDistillTask',
    'RegionEmbeddingTask',
    'RegionProjector',
    'RegionTeacher',
    'TaskContext',
    'encode_regions',
    'encode_views',
]
