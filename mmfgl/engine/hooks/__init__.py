"""Hooks."""

from .checkpoint_chain_hook import CheckpointChainHook, LoadReport
from .collapse_monitor_hook import CollapseError, CollapseMonitorHook
from .freeze_hook import FreezeHook
from .region_probe_hook import RegionProbeHook
from .region_teacher_hook import RegionTeacherHook
from .robust.atomic_checkpoint_hook import AtomicCheckpointHook
from .robust.budget_hook import BudgetHook
from .robust.channels_last_hook import ChannelsLastHook
from .robust.exact_resume_hook import ExactResumeHook
from .robust.nonfinite_guard_hook import NonFiniteError, NonFiniteGuardHook
from .robust.unreadable_image_hook import UnreadableImageHook
from .run_record_hook import RunRecordHook
from .strict_load_hook import StrictLoadHook
from .sync_statistics_hook import SyncStatisticsHook
from .teacher_hook import TeacherHook

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
    'RegionTeacherHook',
    'RunRecordHook',
    'StrictLoadHook',
    'SyncStatisticsHook',
    'TeacherHook',
    'UnreadableImageHook',
]
