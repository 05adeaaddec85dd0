"""Teachers of the pretraining."""

from .ema_teacher import EMATeacher
from .frozen_teacher import FrozenTeacher

__all__ = ['EMATeacher', 'FrozenTeacher']
