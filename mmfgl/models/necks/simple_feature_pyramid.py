"""Pyramid of a plain vision Transformer.

Shape shorthand: B images, C channels, (H, W) sides of the backbone's map.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.registry import MODELS

# Over channels, which does not depend on the batch.
NORM_CFG = dict(type='mmpretrain.LN2d', eps=1e-6)


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Feature pyramid from one map (ViTDet, arXiv 2203.16527).

    Four levels are made from the backbone's last map alone: four times and
    twice as fine by 2x2 deconvolutions of stride 2, the map itself, and half
    as fine by max pooling (strides 4 to 32 for a patch of 16 pixels). A 1x1
    and a 3x3 convolution, each with normalisation, bring a level to its
    width; levels beyond four subsample the last one by two.

    Args:
        in_channels: Channels C of the backbone's map.
        out_channels: Channels c of every level.
        num_outs: Number of levels to return.

    Raises:
        ValueError: If fewer than four levels are asked for.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
    ) -> None:
        super().__init__()
        if num_outs < 4:
            raise ValueError(
                f'SimpleFeaturePyramid makes 4 levels, got num_outs={num_outs}'
            )
        self.num_extra = num_outs - 4
        half, quarter = in_channels // 2, in_channels // 4
        self.scales = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(in_channels, half, 2, 2),
                    build_norm_layer(NORM_CFG, half)[1],
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                ),
                nn.ConvTranspose2d(in_channels, half, 2, 2),
                nn.Identity(),
                # rounding up, like the strided convolutions of other backbones
                nn.MaxPool2d(2, ceil_mode=True),
            ]
        )
        norm = dict(norm_cfg=NORM_CFG, act_cfg=None)
        self.outputs = nn.ModuleList(
            nn.Sequential(
                ConvModule(channels, out_channels, 1, **norm),
                ConvModule(out_channels, out_channels, 3, padding=1, **norm),
            )
            for channels in (quarter, half, in_channels, in_channels)
        )

    def forward(self, feats: Tensor | Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels (B, c, H_k, W_k) of a map (B, C, H, W), from fine to coarse.

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
