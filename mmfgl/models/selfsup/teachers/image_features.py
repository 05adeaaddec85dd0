"""Frozen networks that describe whole images, of timm or MMPretrain.

Shape shorthand: N images, D numbers each.
"""

import difflib
import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmfgl.models.selfsup.teachers.frozen_teacher import (
    fill_backbone,
    swaps_channels,
)
from mmfgl.registry import MODELS
from mmfgl.utils.weights import safe_load


class TimmFeatures(nn.Module):
    """The last map of a timm model, and its class token if it has one.

    Args:
        name: Name of the model in timm, e.g. ``'vit_small_patch14_dinov2'``.

    Raises:
        ValueError: If timm has no such model, or it gives no maps.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name):
            near = difflib.get_close_matches(name, timm.list_models(), 3)
            raise ValueError(
                f'{name!r} is neither a config file nor a model of timm'
                + (f'; near names: {", ".join(near)}' if near else '')
            )
        options = dict(pretrained=False, num_classes=0)
        try:  # Transformers take images of another size if told to
            model = timm.create_model(name, dynamic_img_size=True, **options)
        except TypeError:
            model = timm.create_model(name, **options)
        if not hasattr(model, 'forward_intermediates'):
            raise ValueError(f'{name!r} of timm gives no feature maps')
        # a backbone's checkpoint has no layers behind the last map
        model.prune_intermediate_layers(1, prune_norm=False, prune_head=True)
        self.timm_model = model
        self.preprocessing = model.pretrained_cfg
        self.has_token = bool(getattr(model, 'num_prefix_tokens', 0))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(N, C, h, w) map of (N, 3, H, W) images and maybe (N, C) token."""
        more = dict(return_prefix_tokens=True) if self.has_token else {}
        last = self.timm_model.forward_intermediates(
            images, indices=1, norm=True, intermediates_only=True, **more
        )[-1]
        if not self.has_token:
            return (last,)
        return last[0], last[1][:, 0]


class ImageFeatures(nn.Module):
    """One vector an image from a frozen network with weights of a file.

    It is the mean of the network's last map, or its class token, or both side
    by side, each of length 1. Nothing is downloaded.

    Args:
        model: Name of a timm model, or a config file of MMPretrain,
            MMDetection or mmfgl (``mmpretrain::...`` and ``mmdet::...`` too),
            of which backbone and normalisation are taken.
        weights: Its checkpoint, a local file.
        licence: Licence of the weights, where the checkpoint does not state
            it (timm states those of its own weights).
        trust: Unpickle whatever the checkpoint holds, which can run any code.

    Attributes:
        meta: ``model``, ``weights`` (file name), ``sha256`` of the file,
            ``licence`` (as checkpoint or timm state it, or ``'unknown'``) and
            ``preprocessing`` (``mean``, ``std`` of pixels 0 to 255, ``order``
            of channels).
        config: Of the network, as text: timm's name, or the backbone's.

    Raises:
        FileNotFoundError: If config or weights do not exist.
        ValueError: If the weights do not fill the network, or the config has
            no backbone or no normalisation.
    """

    def __init__(
        self,
        model: str,
        weights: str,
        licence: str | None = None,
        trust: bool = False,
    ) -> None:
        super().__init__()
        if not Path(weights).is_file():
            raise FileNotFoundError(
                f'weights of the teacher not found: {weights!r} (a local '
                'file is needed, nothing is downloaded)'
            )
        if model.endswith('.py'):
            network, preprocessing, self.config = _of_config(model)
        else:
            network, self.config = TimmFeatures(model), model
            cfg = network.preprocessing
            preprocessing = dict(
                mean=[255 * value for value in cfg['mean']],
                std=[255 * value for value in cfg['std']],
                order='RGB',
            )
            licence = licence or cfg.get('license')
        state, meta = _read_weights(weights, trust)
        fill_backbone(network, state, weights)
        network.requires_grad_(False)
        network.eval()  # mmpretrain's backbones return None here
        # several times faster for depthwise convolutions on a CPU
        self.network = network.to(memory_format=torch.channels_last)
        self.meta = dict(
            model=model,
            weights=Path(weights).name,
            sha256=_sha256(weights),
            licence=meta.get('licence') or licence or 'unknown',
            preprocessing=preprocessing,
        )
        for key in ('mean', 'std'):
            value = torch.tensor(preprocessing[key], dtype=torch.float32)
            self.register_buffer(key, value.view(1, -1, 1, 1), False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Describe images.

        Args:
            images: (N, 3, H, W) BGR images, pixels from 0 to 255.

        Returns:
            (N, D) float32 vectors.
        """
        images = images.to(self.mean.device).float()
        if self.meta['preprocessing']['order'] == 'RGB':
            images = images.flip(1)
        images = (images - self.mean) / self.std
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.cat(
            [F.normalize(part.float()) for part in self._parts(images)], 1
        )

    def _parts(self, images: Tensor) -> list[Tensor]:
        """(N, C) each: means of the last maps and class tokens."""
        outs = self.network(images)
        if not isinstance(self.network, TimmFeatures):
            outs = outs[-1]  # of the last level
        if not isinstance(outs, tuple | list):
            outs = (outs,)
        parts = []
        for out in outs:
            if out.ndim == 4:
                out = out.mean(dim=(2, 3))
            elif out.ndim == 3:  # all tokens of a Transformer
                out = out.mean(dim=1)
            parts.append(out)
        return parts


def _of_config(path: str) -> tuple[nn.Module, dict, str]:
    """Backbone and preprocessing that a config describes, and its text."""
    if '::' in path:
        cfg = get_config(path)
    elif Path(path).is_file():
        cfg = Config.fromfile(path)
    else:
        raise FileNotFoundError(f'config of the teacher not found: {path!r}')
    model = cfg.get('model') or {}
    scope = cfg.get('default_scope', 'mmpretrain')
    if 'detector' in model:  # a pretraining; its detector is mmdet's
        model, scope = model.detector, 'mmdet'
    if '::' in path:
        scope = path.partition('::')[0]
    preprocess = model.get('data_preprocessor') or cfg.get('data_preprocessor')
    for part, name in (
        (model.get('backbone'), 'model.backbone'),
        ((preprocess or {}).get('mean'), 'data_preprocessor.mean'),
    ):
        if part is None:
            raise ValueError(f'{path} has no {name}: it cannot be a teacher')
    backbone = {**model.backbone, 'init_cfg': None}
    # timm's, read or downloaded while it is built
    for key, none in (('pretrained', False), ('checkpoint_path', '')):
        if key in backbone:
            backbone[key] = none
    with DefaultScope.overwrite_default_scope(scope):
        network = MODELS.build(backbone)
    preprocessing = dict(
        mean=list(preprocess.mean),
        std=list(preprocess.std),
        order='RGB' if swaps_channels(preprocess) else 'BGR',
    )
    return network, preprocessing, repr(backbone)


def _read_weights(path: str, trust: bool) -> tuple[dict[str, Tensor], dict]:
    """State dict and meta of a checkpoint, of ``.safetensors`` too."""
    content = safe_load(path, trust)
    meta = content.get('meta') or {}
    for key in ('state_dict', 'model', 'teacher'):
        if isinstance(content.get(key), dict):
            return content[key], meta
    return content, meta


def _sha256(path: str) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
