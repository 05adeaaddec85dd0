"""What the commands ``mmfgl run`` and ``mmfgl predict`` do."""

from .predicting import predict
from .running import run

__all__ = ['predict', 'run']
