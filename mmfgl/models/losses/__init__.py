"""Losses of the pretraining."""

from .dense_distill_loss import DenseDistillLoss
from .patch_similarity_loss import PatchSimilarityLoss
from .queue_similarity_loss import QueueSimilarityLoss
from .region_distill_loss import (
    RegionDistillLoss,
    RegionTargets,
    target_statistics,
)
from .region_diversity_loss import RegionDiversityLoss
from .region_embedding_loss import RegionEmbeddingLoss
from .region_relation_loss import RegionRelationLoss
from .similarity_kl import similarity_kl

__all__ = [
    'PatchSimilarityLoss',
    'QueueSimilarityLoss',
    'DenseDistillLoss',
    'RegionDistillLoss',
    'RegionDiversityLoss',
    'RegionEmbeddingLoss',
    'RegionRelationLoss',
    'RegionTargets',
    'similarity_kl',
    'target_statistics',
]
