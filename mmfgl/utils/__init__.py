"""Launching, checks, files and randomness; imports nothing of mmfgl."""

from .model import unwrap

__all__ = ['unwrap']
