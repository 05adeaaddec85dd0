"""Hooks."""

from .atomic_checkpoint_hook import AtomicCheckpointHook
from .budget_hook import BudgetHook
from .channels_last_hook import ChannelsLastHook
from .checkpoint_chain_hook import CheckpointChainHook, LoadReport
from .collapse_monitor_hook import CollapseError, CollapseMonitorHook
from .exact_resume_hook import ExactResumeHook
from .freeze_hook import FreezeHook
from .nonfinite_guard_hook import NonFiniteError, NonFiniteGuardHook
from .region_probe_hook import RegionProbeHook
from .teacher_hook import TeacherHook
from .unreadable_image_hook import UnreadableImageHook

__all__ = [
    'AtomicCheckpointHook',
    'BudgetHook',
    'ChannelsLastHook',
    'CheckpointChainHook',
    'CollapseError',
    'CollapseMonitorHook',
    'ExactResumeHook',
    'FreezeHook',
    'LoadReport',
    'NonFiniteError',
    'NonFiniteGuardHook',
    'RegionProbeHook',
    'TeacherHook',
    'UnreadableImageHook',
]
