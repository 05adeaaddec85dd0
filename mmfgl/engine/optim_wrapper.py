"""Mixed precision on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from mmfgl.registry import OPTIM_WRAPPERS
from mmfgl.utils.model import to_fp32

__all__ = ['CPUAmpOptimWrapper', 'keep_boxes_in_fp32']


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Optimizer wrapper that trains under bfloat16 autocast on a CPU.

    MMEngine's ``AmpOptimWrapper`` insists on an accelerator. bfloat16 has
    the exponent range of float32, so no loss scaling is needed; weights,
    gradients and the optimizer's state stay in float32, and a checkpoint is
    interchangeable with one of a float32 run. CPUs with AVX512-BF16 or AMX
    instructions gain speed; older ones compute the same more slowly.

    RoI extractors run in float32, and detection heads return float32. The
    CPU kernels of RoIAlign and NMS know no bfloat16, and its 8 significant
    bits would round a coordinate of 700 px to a multiple of 4.

    Args:
        dtype: Autocast data type; ``'bfloat16'`` is the only one here.
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`.

    Raises:
        RuntimeError: The model will not run on a CPU.
        ValueError: ``dtype`` is not bfloat16.
    """

    def __init__(
        self, dtype: str | torch.dtype = 'bfloat16', **kwargs: Any
    ) -> None:
        device = get_device()
        if device != 'cpu':
            raise RuntimeError(
                'CPUAmpOptimWrapper is for training on a CPU, but MMEngine '
                f'will train on "{device}". Use AmpOptimWrapper there (the '
                '--amp flag of tools/train.py chooses the right one).'
            )
        if str(dtype).removeprefix('torch.') != 'bfloat16':
            raise ValueError(
                'Autocast on a CPU supports dtype="bfloat16" only, got '
                f'"{dtype}". Leave optim_wrapper.dtype out.'
            )
        super().__init__(**kwargs)
        self._hooked = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of a (wrapped) model under autocast."""
        if not self._hooked:
            keep_boxes_in_fp32(model)
            self._hooked = True
        with (
            super().optim_context(model),
            torch.autocast('cpu', dtype=torch.bfloat16),
        ):
            yield


def keep_boxes_in_fp32(model: nn.Module) -> None:
    """Hook the modules that touch boxes; their classes stay untouched.

    For bfloat16: mmcv's operators do not know it, on a GPU neither. The heads
    of mmfgl and :class:`ReToD` see to themselves; mmdet's own need this.

    Args:
        model: A detector, changed in place.
    """
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
    from mmdet.models.roi_heads import BaseRoIExtractor, BBoxHead

    for module in model.modules():
        if isinstance(module, BaseRoIExtractor):
            module.register_forward_pre_hook(
                lambda _, args, kwargs: (to_fp32(args), to_fp32(kwargs)),
                with_kwargs=True,
            )
        elif isinstance(module, BaseDenseHead | BBoxHead):
            module.register_forward_hook(lambda _, args, out: to_fp32(out))
