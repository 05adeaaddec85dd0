"""Pyramid of a plain vision Transformer.

Shape shorthand: B images, C channels, (H, W) side of the backbone's map.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_activation_layer, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.registry import MODELS


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Feature pyramid from one map (ViTDet, arXiv 2203.16527).

    Every level is made from the backbone's last map alone: finer levels by
    2x2 deconvolutions of stride 2, coarser ones by max pooling. A 1x1 and a
    3x3 convolution, each with normalisation, bring a level to its width;
    further levels subsample the coarsest one. The map may have any size.

    Args:
        in_channels: Channels C of the backbone's map.
        out_channels: Channels of every level.
        in_stride: Stride of the backbone's map in pixels.
        strides: Ascending strides of the levels made from it; each is
            ``in_stride`` times a power of two.
        num_outs: Number of levels to return. Those beyond ``strides``
            subsample the last one by two. Defaults to one more.
        norm_cfg: Normalisation over channels, which does not depend on the
            batch.
        act_cfg: Activation between two deconvolutions.
        init_cfg: Initialisation config of MMEngine.

    Raises:
        ValueError: If the strides or ``num_outs`` do not fit.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        in_stride: int = 16,
        strides: Sequence[int] = (4, 8, 16, 32),
        num_outs: int | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        num_outs = len(strides) + 1 if num_outs is None else num_outs
        if num_outs < len(strides):
            raise ValueError(
                f'num_outs={num_outs} is less than the {len(strides)} levels '
                f'of strides={tuple(strides)}: give fewer strides'
            )
        if list(strides) != sorted(set(strides)):
            raise ValueError(f'strides must ascend, got {tuple(strides)}')
        norm_cfg = norm_cfg or dict(type='mmpretrain.LN2d', eps=1e-6)
        act_cfg = act_cfg or dict(type='GELU')
        self.num_extra = num_outs - len(strides)
        self.scales = nn.ModuleList()
        self.outputs = nn.ModuleList()
        for stride in strides:
            scale, channels = _rescale(
                in_channels, _steps(in_stride, stride), norm_cfg, act_cfg
            )
            self.scales.append(scale)
            self.outputs.append(
                nn.Sequential(
                    _conv(channels, out_channels, 1, norm_cfg),
                    _conv(out_channels, out_channels, 3, norm_cfg),
                )
            )

    def forward(self, feats: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make the pyramid.

        Args:
            feats: The backbone's map (B, C, H, W), or a sequence of it alone.

        Returns:
            Levels from fine to coarse, each (B, out_channels, H_l, W_l).

        Raises:
            ValueError: If the backbone gives several maps.
        """
        if not isinstance(feats, Tensor):
            if len(feats) != 1:
                raise ValueError(
                    'SimpleFeaturePyramid reads the last map alone, but the '
                    f'backbone gives {len(feats)}: set out_indices=-1'
                )
            feats = feats[0]
        levels = [
            output(scale(feats))
            for scale, output in zip(self.scales, self.outputs, strict=True)
        ]
        for _ in range(self.num_extra):
            levels.append(F.max_pool2d(levels[-1], 1, stride=2))
        return tuple(levels)


def _steps(in_stride: int, stride: int) -> int:
    """Halvings from ``in_stride`` to ``stride``, negative for coarser."""
    fine, coarse = sorted((in_stride, stride))
    factor, rest = divmod(coarse, fine) if fine > 0 else (0, 0)
    if rest or factor < 1 or factor & (factor - 1):
        raise ValueError(
            f'stride {stride} is not {in_stride} times a power of two'
        )
    steps = factor.bit_length() - 1
    return steps if stride < in_stride else -steps


def _rescale(
    channels: int, steps: int, norm_cfg: dict, act_cfg: dict
) -> tuple[nn.Module, int]:
    """Layers that double (``steps`` > 0) or halve the map's sides.

    Returns:
        The layers and their number of output channels: every doubling halves
        the channels.
    """
    layers: list[nn.Module] = []
    for step in range(steps):
        if step > 0:
            layers.append(build_norm_layer(norm_cfg, channels)[1])
            layers.append(build_activation_layer(act_cfg))
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        channels //= 2
    # rounding up, like the strided convolutions of other backbones
    layers.extend(nn.MaxPool2d(2, ceil_mode=True) for _ in range(-steps))
    return nn.Sequential(*layers), channels


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, norm_cfg: dict
) -> ConvModule:
    """Convolution of stride 1 that keeps the map's sides, with norm."""
    return ConvModule(
        in_channels,
        out_channels,
        kernel_size,
        padding=kernel_size // 2,
        norm_cfg=norm_cfg,
        act_cfg=None,
    )
