"""Weights: read safely, told what they are, checked before a run uses them."""

from .checks import (
    StrictCheckpointHook,
    StrictLoadHook,
    check_test_checkpoint,
    check_weights,
    weights_hint,
)
from .fit import needed, revise, tensors_of
from .kinds import CheckpointError, check_checkpoint, check_file
from .loader import use_safe_loading
from .report import LoadReport, advise, as_loaded, check_finite, part_of
from .safe_load import safe_load

__all__ = [
    'CheckpointError',
    'LoadReport',
    'StrictCheckpointHook',
    'StrictLoadHook',
    'advise',
    'as_loaded',
    'check_checkpoint',
    'check_file',
    'check_finite',
    'check_test_checkpoint',
    'check_weights',
    'needed',
    'part_of',
    'revise',
    'safe_load',
    'tensors_of',
    'use_safe_loading',
    'weights_hint',
]
