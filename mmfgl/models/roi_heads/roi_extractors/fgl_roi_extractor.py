"""RoI extractor with pixel, spatial and context features.

Shape shorthand: R RoIs, C channels of the pyramid, K context scales, S cells a
side.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from mmfgl.models.layers import DeviceRoIPool
from mmfgl.registry import MODELS


@MODELS.register_module()
class FGLRoIExtractor(SingleRoIExtractor):
    """Pixel features of a RoI plus learnable spatial features.

    Pixel features: RoIAlign or RoIPool on the RoI's pyramid level
    (:class:`SingleRoIExtractor`). Spatial features, added to them: a
    learnable embedding of each of the S x S cells, and a linear embedding of
    the box geometry (log width, log height, log aspect ratio; in network-input
    pixels over ``finest_scale``), the same in every cell. Context features:
    the same cells of a window scaled about the RoI's centre, from the same
    level, as further channels.

    Args:
        roi_layer: Config of ``RoIAlign`` or ``RoIPool`` of :mod:`mmcv.ops`;
            the latter runs on a CPU too
            (:class:`mmfgl.models.layers.DeviceRoIPool`).
        out_channels: Channels C of the pyramid.
        featmap_strides: Strides of the pyramid levels.
        finest_scale: Side in pixels of the RoIs at which the mapping leaves
            the finest level (twice this).
        spatial_features: ``False`` leaves the pixel features alone.
        context_scales: K factors above 1, one more window each. The output
            then has C (1 + K) channels, which the tokenizer must expect.
        init_cfg: Initialisation config of MMEngine.

    Raises:
        ValueError: If a context scale does not exceed 1.
    """

    def __init__(
        self,
        roi_layer: dict,
        out_channels: int,
        featmap_strides: list[int],
        finest_scale: int = 56,
        spatial_features: bool = True,
        context_scales: Sequence[float] = (),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            roi_layer=roi_layer,
            out_channels=out_channels,
            featmap_strides=featmap_strides,
            finest_scale=finest_scale,
            init_cfg=init_cfg,
        )
        if not all(scale > 1 for scale in context_scales):
            raise ValueError(
                f'context_scales must exceed 1, got {list(context_scales)}'
            )
        self.window_scales = (1.0, *context_scales)
        self.spatial_features = spatial_features
        if spatial_features:
            size = self.roi_layers[0].output_size
            self.cell_embedding = nn.Parameter(
                torch.zeros(1, out_channels, *size)
            )
            nn.init.normal_(self.cell_embedding, std=0.02)
            self.geometry_embedding = nn.Linear(3, out_channels)
            nn.init.normal_(self.geometry_embedding.weight, std=0.02)
            nn.init.zeros_(self.geometry_embedding.bias)

    def build_roi_layers(
        self, layer_cfg: dict, featmap_strides: list[int]
    ) -> nn.ModuleList:
        """Build the RoI operator of every level, RoIPool with a CPU kernel.

        Args:
            layer_cfg: Config of the operator.
            featmap_strides: Strides of the pyramid levels.

        Returns:
            One operator a level.
        """
        if layer_cfg['type'] == 'RoIPool':
            layer_cfg = {**layer_cfg, 'type': DeviceRoIPool}
        return super().build_roi_layers(layer_cfg, featmap_strides)

    def forward(
        self,
        feats: tuple[Tensor, ...],
        rois: Tensor,
        roi_scale_factor: float | None = None,
    ) -> Tensor:
        """Extract the features of RoIs.

        Args:
            feats: Pyramid levels, each (B, C, H_l, W_l).
            rois: (R, 5) rows (image index, x1, y1, x2, y2), network-input
                pixels.
            roi_scale_factor: Factor by which the pooled windows are scaled
                about the RoI's centre.

        Returns:
            (R, C (1 + K), S, S) features, at least fp32 when ``feats`` are
            bf16.
        """
        feats = [_readable(level) for level in feats]
        windows = [
            self._pool(feats, rois, scale * (roi_scale_factor or 1))
            for scale in self.window_scales
        ]
        if self.spatial_features:
            spatial = self.cell_embedding + self._embed_geometry(rois)
            windows[0] = windows[0] + spatial.to(windows[0].dtype)
        return windows[0] if len(windows) == 1 else torch.cat(windows, dim=1)

    def squeezed(
        self, feats: tuple[Tensor, ...], rois: Tensor, conv: nn.Conv2d
    ) -> Tensor:
        """``conv(self(feats, rois))``, in the cheaper of two orders.

        A 1x1 convolution and RoIAlign act on different axes and both are
        linear, so squeezing the pyramid before pooling gives the same values
        up to rounding. It saves most of the pooling where RoIs are many.

        Args:
            feats: Pyramid levels, each (B, C, H_l, W_l).
            rois: (R, 5) rows (image index, x1, y1, x2, y2), network-input
                pixels.
            conv: 1x1 convolution of C (1 + K) to c channels.

        Returns:
            (R, c, S, S) squeezed features.
        """
        if not self._squeezing_first_is_cheaper(feats, rois):
            return conv(self(feats, rois))
        # conv of concatenated windows = sum of one convolution a window
        weights = conv.weight.split(self.out_channels, dim=1)
        total = None
        for scale, weight in zip(self.window_scales, weights, strict=True):
            levels = [_readable(F.conv2d(f, weight)) for f in feats]
            pooled = self._pool(levels, rois, scale)
            total = pooled if total is None else total + pooled
        if self.spatial_features:
            cells = F.conv2d(self.cell_embedding, weights[0], conv.bias)
            sides = F.conv2d(self._embed_geometry(rois), weights[0])
            return total + (cells + sides).to(total.dtype)
        if conv.bias is None:
            return total
        return total + conv.bias[:, None, None].to(total.dtype)

    def _squeezing_first_is_cheaper(
        self, feats: tuple[Tensor, ...], rois: Tensor
    ) -> bool:
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
        self, feats: Sequence[Tensor], rois: Tensor, scale: float
    ) -> Tensor:
        """Pool from each RoI's own level, whatever the number of channels.

        Args:
            feats: Pyramid levels, each (B, c, H_l, W_l).
            rois: (R, 5) RoIs.
            scale: Factor of the pooled window.

        Returns:
            (R, c, S, S) pixel features.
        """
        rois = rois.type_as(feats[0])
        own = self.map_roi_levels(rois, len(feats))
        if scale != 1:
            rois = self.roi_rescale(rois, scale)
        pooled, places = [], []
        for index, (layer, level) in enumerate(
            zip(self.roi_layers, feats, strict=True)
        ):
            place = (own == index).nonzero().squeeze(1)
            places.append(place)
            if len(place):
                pooled.append(layer(level, rois[place]))
                continue
            # distributed training waits for gradients of unused levels too
            size = layer.output_size
            empty = level.new_zeros(0, level.shape[1], *size)
            pooled.append(empty + level.sum() * 0)
        return torch.cat(pooled)[torch.cat(places).argsort()]

    def _embed_geometry(self, rois: Tensor) -> Tensor:
        """(R, 5) RoIs -> (R, C, 1, 1) embedding of their sides."""
        sides = (rois[:, 3:5] - rois[:, 1:3]).float().clamp(min=1)
        logs = (sides / self.finest_scale).log()
        aspect = logs[:, :1] - logs[:, 1:]
        embedding = self.geometry_embedding(torch.cat([logs, aspect], dim=1))
        return embedding[:, :, None, None]


def _readable(level: Tensor) -> Tensor:
    """A pyramid level that mmcv's RoI operators read correctly.

    They know no bf16, and those for CPUs read channels-last memory in the
    wrong order.
    """
    level = level.float() if level.dtype == torch.bfloat16 else level
    return level.contiguous()
