"""Losses of the pretraining."""

from .region_distill_loss import (
    RegionDistillLoss,
    RegionTargets,
    target_statistics,
)
from .region_diversity_loss import RegionDiversityLoss

__all__ = [
    'RegionDistillLoss',
    'RegionDiversityLoss',
    'RegionTargets',
    'target_statistics',
]
