"""Hooks."""

from .channels_last_hook import ChannelsLastHook
from .checkpoint_chain_hook import CheckpointChainHook, LoadReport
from .teacher_hook import TeacherHook
from .unreadable_image_hook import UnreadableImageHook

__all__ = [
    'ChannelsLastHook',
    'CheckpointChainHook',
    'LoadReport',
    'TeacherHook',
    'UnreadableImageHook',
]
