"""RoI extractor with pixel and spatial features."""

import torch
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
    pixels over ``finest_scale``), the same in every cell.

    Args:
        roi_layer: Config of ``RoIAlign`` or ``RoIPool`` of :mod:`mmcv.ops`;
            the latter runs on a CPU too
            (:class:`mmfgl.models.layers.DeviceRoIPool`).
        out_channels: Channels C of the pyramid.
        featmap_strides: Strides of the pyramid levels.
        finest_scale: Side in pixels of the RoIs at which the mapping leaves
            the finest level (twice this).
        spatial_features: ``False`` leaves the pixel features alone.
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        roi_layer: dict,
        out_channels: int,
        featmap_strides: list[int],
        finest_scale: int = 56,
        spatial_features: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            roi_layer=roi_layer,
            out_channels=out_channels,
            featmap_strides=featmap_strides,
            finest_scale=finest_scale,
            init_cfg=init_cfg,
        )
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
            roi_scale_factor: Factor by which the pooled window is scaled
                about the RoI's centre.

        Returns:
            (R, C, S, S) features, at least fp32 when ``feats`` are bf16.
        """
        # the RoI operators of mmcv know no bf16, and those for CPUs read
        # channels-last memory in the wrong order
        feats = tuple(
            (f.float() if f.dtype == torch.bfloat16 else f).contiguous()
            for f in feats
        )
        pixel = super().forward(feats, rois, roi_scale_factor)
        if not self.spatial_features:
            return pixel
        spatial = self.cell_embedding + self._embed_geometry(rois)
        return pixel + spatial.to(pixel.dtype)

    def _embed_geometry(self, rois: Tensor) -> Tensor:
        """(R, 5) RoIs -> (R, C, 1, 1) embedding of their sides."""
        sides = (rois[:, 3:5] - rois[:, 1:3]).float().clamp(min=1)
        logs = (sides / self.finest_scale).log()
        aspect = logs[:, :1] - logs[:, 1:]
        embedding = self.geometry_embedding(torch.cat([logs, aspect], dim=1))
        return embedding[:, :, None, None]
