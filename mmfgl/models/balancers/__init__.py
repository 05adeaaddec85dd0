"""Balancing the losses of several tasks, behind one interface."""

from .base import TaskBalancer, TaskDraw, TaskLoss
from .dwa import DWABalancer
from .famo import FAMOBalancer
from .fixed import FixedBalancer
from .task_adaptive_loss import TaskAdaptiveLoss
from .task_sampler import TaskSampler
from .uncertainty import UncertaintyBalancer

__all__ = [
    'DWABalancer',
    'FAMOBalancer',
    'FixedBalancer',
    'TaskAdaptiveLoss',
    'TaskBalancer',
    'TaskDraw',
    'TaskLoss',
    'TaskSampler',
    'UncertaintyBalancer',
]
