"""A frozen model of images as a teacher in the training loop."""

import logging

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from mmfgl.registry import MODELS


@MODELS.register_module()
class FrozenTeacher(BaseModule):
    """Feature maps of a trained backbone, for views of the student.

    Its weights are read from a file, never trained and never saved: they are
    no parameters of the student, its checkpoint or its optimizer, and
    distributed training does not send them. It runs in evaluation mode
    without gradient, in the precision of the training.

    Args:
        backbone: Config of a backbone that returns maps (B, C, H, W), e.g.
            ``dict(type='mmpretrain.TIMMBackbone', model_name=...,
            features_only=True, out_indices=(2, 3, 4))``.
        data_preprocessor: How it wants images normalised: ``mean``, ``std``
            (pixel values 0 to 255) and ``bgr_to_rgb``, as a config of
            MMDetection says it.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``, its keys with
            or without ``backbone.``; read by :meth:`init_weights`, as a
            Runner calls it, whole or not at all.
    """

    def __init__(
        self,
        backbone: dict,
        data_preprocessor: dict,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        self.checkpoint = init_cfg and init_cfg['checkpoint']
        model = MODELS.build(backbone)
        model.requires_grad_(False)
        model.eval()
        # a tuple hides it: see the class
        self._frozen = (model,)
        self.data_preprocessor = data_preprocessor
        for name in ('scale', 'shift'):
            self.register_buffer(name, torch.ones(1, 3, 1, 1), False)
        self.flips = False
        self.match(data_preprocessor)
        maps = self(torch.zeros(1, 3, 224, 224))
        self.out_channels = tuple(level.shape[1] for level in maps)

    def init_weights(self) -> None:
        """Read the weights, a teacher's only sense; warn without any.

        Raises:
            ValueError: If they do not fill the backbone.
        """
        if self.checkpoint:
            state = CheckpointLoader.load_checkpoint(self.checkpoint, 'cpu')
            state = state.get('state_dict', state)
            fill_backbone(self._frozen[0], state, self.checkpoint)
            return
        print_log(
            'FrozenTeacher has no init_cfg: it teaches random weights',
            logger='current',
            level=logging.WARNING,
        )

    def match(self, data_preprocessor: dict) -> None:
        """Say how the views are normalised that it is going to see.

        Args:
            data_preprocessor: ``mean``, ``std`` and ``bgr_to_rgb`` (or
                MMPretrain's ``to_rgb``) of the student; without a mean, as
                the preprocessor takes it, values stay as they are.
        """
        source, target = data_preprocessor, self.data_preprocessor
        self.flips = swaps_channels(source) != swaps_channels(target)
        mean = torch.tensor(source.get('mean') or [0.0] * 3)
        std = torch.tensor(source.get('std') or [1.0] * 3)
        if self.flips:
            mean, std = mean.flip(0), std.flip(0)
        own = torch.tensor(target['std'])
        shift = (mean - torch.tensor(target['mean'])) / own
        self.scale.copy_((std / own).view(1, 3, 1, 1))
        self.shift.copy_(shift.view(1, 3, 1, 1))

    @torch.no_grad()
    def forward(self, views: Tensor) -> tuple[Tensor, ...]:
        """Feature maps, each (B, C_l, H_l, W_l), of (B, 3, H, W) views."""
        if self.flips:
            views = views.flip(1)
        return self._frozen[0](views * self.scale + self.shift)

    def _apply(self, fn, *args, **kwargs):  # noqa: ANN001, ANN202
        """Move the hidden model along (``to``, ``cuda``, ``half``)."""
        self._frozen[0]._apply(fn, *args, **kwargs)
        return super()._apply(fn, *args, **kwargs)


def swaps_channels(data_preprocessor: dict) -> bool:
    """Whether it changes the order of the colours of an image."""
    keys = 'bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'
    return any(data_preprocessor.get(key) for key in keys)


def fill_backbone(
    model: nn.Module, state: dict[str, Tensor], source: str
) -> None:
    """Fill a backbone from a state dict, whole or not at all.

    Args:
        model: The backbone.
        state: Its keys with or without ``backbone.``, and with or without
            ``timm_model.`` where the backbone wraps a model of timm.
        source: Where it is from, for the error.

    Raises:
        ValueError: If tensors are missing or of another shape.
    """
    if any(key.startswith('backbone.') for key in state):
        state = {
            key.removeprefix('backbone.'): value
            for key, value in state.items()
            if key.startswith('backbone.')
        }
    own = model.state_dict()
    wraps = all(key.startswith('timm_model.') for key in own)
    if wraps and not any(key.startswith('timm_model.') for key in state):
        state = {f'timm_model.{key}': value for key, value in state.items()}
    wrong = [
        key
        for key, value in own.items()
        if key not in state or state[key].shape != value.shape
    ]
    if wrong:
        raise ValueError(
            f'{source} does not fill the teacher: {len(wrong)} of '
            f'{len(own)} tensors are missing or of another shape, the first '
            f'is {wrong[0]}'
        )
    model.load_state_dict({key: state[key] for key in own})
