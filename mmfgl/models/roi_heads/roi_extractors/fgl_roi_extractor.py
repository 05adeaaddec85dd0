"""RoI extractor with pixel and spatial features.

Shape shorthand: B images, R RoIs, C channels of the pyramid, c squeezed
channels, S cells a side, level k with sides H_k, W_k.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from mmfgl.models.layers import (
    DeviceRoIPool,
    pool_levels,
    readable_levels,
    roi_levels,
)
from mmfgl.registry import MODELS


@MODELS.register_module()
class FGLRoIExtractor(SingleRoIExtractor):
    """Pixel features of a RoI plus learnable spatial features.

    Pixel features: RoIAlign or RoIPool on the RoI's pyramid level
    (:class:`SingleRoIExtractor`). Spatial features, added to them: a
    learnable embedding of each of the S x S cells, and a linear embedding of
    the box geometry (log width, log height, log aspect ratio; in network-input
    pixels over ``finest_scale``), the same in every cell.

    RoIs and levels are computed in fp32 whatever the dtype of the maps. A
    RoI with a negative side counts as empty.

    Args:
        roi_layer: Config of ``RoIAlign`` or ``RoIPool`` of :mod:`mmcv.ops`;
            the latter runs on a CPU too
            (:class:`mmfgl.models.layers.DeviceRoIPool`).
        out_channels: Channels C of the pyramid.
        featmap_strides: Strides of the pyramid levels.
        finest_scale: Side in pixels of the RoIs at which the mapping leaves
            the finest level (twice this).
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        roi_layer: dict,
        out_channels: int,
        featmap_strides: list[int],
        finest_scale: int = 56,
        init_cfg: dict | None = None,
    ) -> None:
        if roi_layer['type'] == 'RoIPool':
            roi_layer = {**roi_layer, 'type': DeviceRoIPool}
        super().__init__(
            roi_layer=roi_layer,
            out_channels=out_channels,
            featmap_strides=featmap_strides,
            finest_scale=finest_scale,
            init_cfg=init_cfg,
        )
        size = self.roi_layers[0].output_size
        self.cell_embedding = nn.Parameter(torch.zeros(1, out_channels, *size))
        nn.init.normal_(self.cell_embedding, std=0.02)
        self.geometry_embedding = nn.Linear(3, out_channels)
        nn.init.normal_(self.geometry_embedding.weight, std=0.02)
        nn.init.zeros_(self.geometry_embedding.bias)

    def forward(
        self,
        feats: Sequence[Tensor],
        rois: Tensor,
        roi_scale_factor: float | None = None,
        level_shift: int | str = 0,
        squeeze: nn.Conv2d | None = None,
    ) -> Tensor:
        """Extract the features of RoIs.

        A 1x1 convolution and RoIAlign act on different axes and both are
        linear, so ``squeeze`` gives the same values up to rounding before and
        after pooling. Squeezing the pyramid saves most of the pooling where
        RoIs are many; the cheaper order is taken.

        Args:
            feats: Pyramid levels, each (B, C, H_k, W_k).
            rois: (R, 5) rows (image index, x1, y1, x2, y2), network-input
                pixels.
            roi_scale_factor: Factor by which the pooled windows are scaled
                about the RoI's centre.
            level_shift: Pool from other levels than the RoIs' own, see
                :func:`mmfgl.models.layers.roi_levels`.
            squeeze: 1x1 convolution of C to c channels to apply.

        Returns:
            (R, C or c, S, S) features, fp32 unless ``squeeze`` came last
            under autocast.
        """
        rois = rois.float()
        upper = torch.maximum(rois[:, 1:3], rois[:, 3:5])
        rois = torch.cat([rois[:, :3], upper], dim=1)
        cells, geometry = self.cell_embedding, self._embed_geometry(rois)
        if squeeze is not None and self._squeeze_first(feats, rois):
            feats = [F.conv2d(level, squeeze.weight) for level in feats]
            cells = F.conv2d(cells, squeeze.weight, squeeze.bias)
            geometry = F.conv2d(geometry, squeeze.weight)
            squeeze = None
        own = roi_levels(rois, len(feats), self.finest_scale, level_shift)
        if roi_scale_factor is not None:
            rois = self.roi_rescale(rois, roi_scale_factor)
        pooled = self._pool(readable_levels(feats), rois, own)
        x = pooled + (cells + geometry)
        return x if squeeze is None else squeeze(x)

    def _squeeze_first(self, feats: Sequence[Tensor], rois: Tensor) -> bool:
        """Whether to squeeze the pyramid rather than the pooled RoIs."""
        linear = all(
            isinstance(layer, RoIAlign) and layer.pool_mode == 'avg'
            for layer in self.roi_layers
        )
        positions = sum(f.shape[0] * f.shape[2] * f.shape[3] for f in feats)
        height, width = self.roi_layers[0].output_size
        # on CPUs pooling a value costs as much as some 240 multiply-adds, so
        # that with 256 -> 64 channels a pooled cell weighs 3.8 positions
        return linear and positions < 3.8 * len(rois) * height * width

    def _pool(
        self, feats: Sequence[Tensor], rois: Tensor, own: Tensor
    ) -> Tensor:
        """(R, c, S, S) features of (R, 5) RoIs from their (R,) own levels."""
        if torch.jit.is_tracing():
            return pool_levels(self.roi_layers, feats, rois, own)
        order = own.argsort()
        # in one message from the GPU; bincount reads the extremes first
        levels = torch.arange(len(feats), device=own.device)
        counts = (own == levels[:, None]).sum(dim=1).tolist()
        pooled = []
        for layer, level, part in zip(
            self.roi_layers, feats, rois[order].split(counts), strict=True
        ):
            if len(part):
                pooled.append(layer(level, part))
                continue
            # distributed training waits for gradients of unused levels too
            shape = (0, level.shape[1], *layer.output_size)
            pooled.append(level.new_zeros(shape) + level.sum() * 0)
        return torch.cat(pooled)[order.argsort()]

    def _embed_geometry(self, rois: Tensor) -> Tensor:
        """(R, 5) RoIs -> (R, C, 1, 1) embedding of their sides."""
        sides = (rois[:, 3:5] - rois[:, 1:3]).clamp(min=1)
        logs = (sides / self.finest_scale).log()
        aspect = logs[:, :1] - logs[:, 1:]
        embedding = self.geometry_embedding(torch.cat([logs, aspect], dim=1))
        return embedding[:, :, None, None]
