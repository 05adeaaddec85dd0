"""Pictures of predictions, and of what the FGL RoI head reads."""

from .picture_hook import PictureHook, show_predictions

__all__ = ['PictureHook', 'show_predictions']
