"""Fine-grained object localization on MMDetection and MMPretrain."""

from .version import __version__, check_parents

check_parents()

__all__ = ['__version__']
