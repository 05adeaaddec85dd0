"""Models, what wraps them, and the precision of what they give."""

from typing import Any

import torch
from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside wrappers for distributed training and TTA."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def to_fp32(value: Any) -> Any:
    """Cast the half precision tensors of nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        half = value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value
    if isinstance(value, tuple | list):
        return type(value)(to_fp32(item) for item in value)
    if isinstance(value, dict):
        return {key: to_fp32(item) for key, item in value.items()}
    return value
