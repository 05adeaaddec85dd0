"""Tasks of the pretraining, one a file."""

from .base import PretrainingTask
from .dense_distill import DenseDistillTask
from .diversity import DiversityTask
from .masked_regions import MaskedRegionTask
from .objectness import ObjectnessTask
from .region_distill import RegionDistillTask
from .region_embedding import RegionEmbeddingTask

__all__ = [
    'DenseDistillTask',
    'DiversityTask',
    'MaskedRegionTask',
    'ObjectnessTask',
    'PretrainingTask',
    'RegionDistillTask',
    'RegionEmbeddingTask',
]
