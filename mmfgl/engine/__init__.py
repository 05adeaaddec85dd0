"""Hooks and optimizer wrappers."""

from .hooks import *  # noqa: F401,F403
from .optim_wrapper import *  # noqa: F401,F403
