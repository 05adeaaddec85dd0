"""Losses of the pretraining."""

from .dense_distill_loss import DenseDistillLoss
from .region_distill_loss import (
    RegionDistillLoss,
    RegionTargets,
    target_statistics,
)
from .region_diversity_loss import RegionDiversityLoss
from .region_embedding_loss import RegionEmbeddingLoss
from .region_relation_loss import RegionRelationLoss

__all__ = [
    'DenseDistillLoss',
    'RegionDistillLoss',
    'RegionDiversityLoss',
    'RegionEmbeddingLoss',
    'RegionRelationLoss',
    'RegionTargets',
    'target_statistics',
]
