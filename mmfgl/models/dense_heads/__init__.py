"""Dense heads."""

from .batched_rpn_head import BatchedRPNHead

__all__ = ['BatchedRPNHead']
