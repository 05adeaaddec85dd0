"""Hooks."""

from .budget_hook import BudgetHook
from .channels_last_hook import ChannelsLastHook
from .checkpoint_chain_hook import CheckpointChainHook, LoadReport
from .freeze_hook import FreezeHook
from .teacher_hook import TeacherHook
from .unreadable_image_hook import UnreadableImageHook

__all__ = [
    'BudgetHook',
    'ChannelsLastHook',
    'CheckpointChainHook',
    'FreezeHook',
    'LoadReport',
    'TeacherHook',
    'UnreadableImageHook',
]
