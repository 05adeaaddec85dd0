"""Losses of the pretraining."""

from .dense_distill_loss import DenseDistillLoss
from .region_distill_loss import (
    RegionDistillLoss,
    RegionTargets,
    target_statistics,
)
from .region_diversity_loss import RegionDiversityLoss

__all__ = [
    'DenseDistillLoss',
    'RegionDistillLoss',
    'RegionDiversityLoss',
    'RegionTargets',
    'target_statistics',
]
