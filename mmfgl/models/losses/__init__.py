"""Losses of the pretraining."""

from .region_distill_loss import (
    RegionDistillLoss,
    RegionTargets,
    target_statistics,
)

__all__ = ['RegionDistillLoss', 'RegionTargets', 'target_statistics']
