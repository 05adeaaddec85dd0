"""Channels-last inputs for backbones."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Run every backbone of the model in channels-last layout.

    Results are the same; depthwise convolutions run faster in this layout on
    a CPU. Works for any model with modules named ``backbone``, a teacher's
    included, and for their copies under other names (the momentum encoders of
    MMPretrain). Features leave the backbone in the ordinary layout again.
    """

    def before_run(self, runner: Runner) -> None:
        """Hook the backbones before training or testing.

        Raises:
            ValueError: If the model has no module named ``backbone``.
        """
        if is_rehearsal(runner):
            return
        kinds = {
            type(module)
            for name, module in runner.model.named_modules()
            if name.rpartition('.')[2] == 'backbone'
        }
        if not kinds:
            raise ValueError(
                'ChannelsLastHook found no module named "backbone" in '
                f'{type(runner.model).__name__}: remove it from custom_hooks'
            )
        for module in runner.model.modules():
            if type(module) in kinds:
                module.register_forward_pre_hook(_to_channels_last)
                module.register_forward_hook(_to_contiguous)


def _to_channels_last(_: nn.Module, args: tuple) -> tuple:
    """Convert the first argument of a module, a batch of images."""
    images, *rest = args
    return images.contiguous(memory_format=torch.channels_last), *rest


def _to_contiguous(_: nn.Module, args: tuple, feats: tuple | list) -> tuple:
    """Convert the features back.

    mmcv's RoI operators for CPUs take any memory for contiguous and would
    silently read channels-last features in the wrong order.
    """
    return tuple(level.contiguous() for level in feats)
