"""Weights: read safely, told what they are, checked before a run uses them."""

from .checks import (
    StrictCheckpointHook,
    check_opened_weights,
    check_test_checkpoint,
    check_weights,
    read_checkpoint,
    weights_hint,
)
from .fit import needed, revise, tensors_of
from .init_cfg import (
    init_fault,
    loads_itself,
    pretrained_modules,
    try_loading,
)
from .kinds import (
    CheckpointError,
    DamagedCheckpointError,
    check_checkpoint,
    check_file,
)
from .loader import use_safe_loading
from .report import (
    LoadReport,
    advise,
    as_loaded,
    check_finite,
    part_of,
    row_faults,
)
from .safe_load import safe_load

__all__ = [
    'CheckpointError',
    'DamagedCheckpointError',
    'LoadReport',
    'StrictCheckpointHook',
    'advise',
    'as_loaded',
    'check_checkpoint',
    'check_file',
    'check_finite',
    'check_opened_weights',
    'check_test_checkpoint',
    'check_weights',
    'init_fault',
    'loads_itself',
    'needed',
    'part_of',
    'pretrained_modules',
    'read_checkpoint',
    'revise',
    'row_faults',
    'safe_load',
    'tensors_of',
    'try_loading',
    'use_safe_loading',
    'weights_hint',
]
