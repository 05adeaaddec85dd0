"""Losses of the pretraining."""

from .balancers import (
    DWABalancer,
    FAMOBalancer,
    FixedBalancer,
    TaskAdaptiveLoss,
    TaskBalancer,
    TaskLoss,
    TaskSampler,
    UncertaintyBalancer,
)
from .region_distill_loss import (
    RegionDistillLoss,
    RegionTargets,
    target_statistics,
)
from .region_diversity_loss import RegionDiversityLoss

__all__ = [
    'DWABalancer',
    'FAMOBalancer',
    'FixedBalancer',
    'RegionDistillLoss',
    'RegionDiversityLoss',
    'RegionTargets',
    'TaskAdaptiveLoss',
    'TaskBalancer',
    'TaskLoss',
    'TaskSampler',
    'UncertaintyBalancer',
    'target_statistics',
]
