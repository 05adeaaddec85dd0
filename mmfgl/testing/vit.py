"""Tiny vision Transformer models for tests."""

from mmfgl.testing.models import CHANNELS

WIDTH = 32  # of the Transformer
LAYERS = 2


def tiny_vit_arch() -> dict:
    """Two layers of width 32, for ``arch`` of a ``VisionTransformer``."""
    return dict(
        embed_dims=WIDTH,
        num_layers=LAYERS,
        num_heads=2,
        feedforward_channels=2 * WIDTH,
    )


def tiny_vit_cfg(img_size: int = 64, **changes) -> dict:
    """``backbone`` and ``neck`` of the ViT track, for a tiny model.

    The position embedding has the grid of images of side ``img_size``;
    ``changes`` are entries of the backbone. Levels have strides 4 to 32.
    """
    backbone = dict(
        type='mmpretrain.VisionTransformer',
        arch=tiny_vit_arch(),
        img_size=img_size,
        patch_size=16,
        out_type='featmap',
    )
    neck = dict(
        type='mmfgl.SimpleFeaturePyramid',
        in_channels=WIDTH,
        out_channels=CHANNELS,
        num_outs=4,
    )
    return dict(backbone={**backbone, **changes}, neck=neck)
