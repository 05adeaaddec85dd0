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


def tiny_mae_cfg(img_size: int = 64) -> dict:
    """MAE of mmpretrain whose encoder is that of :func:`tiny_vit_cfg`."""
    return dict(
        type='mmpretrain.MAE',
        data_preprocessor=dict(
            type='mmpretrain.SelfSupDataPreprocessor',
            mean=[127.5] * 3,
            std=[64.0] * 3,
        ),
        backbone=dict(
            type='mmpretrain.MAEViT',
            arch=tiny_vit_arch(),
            img_size=img_size,
            patch_size=16,
        ),
        neck=dict(
            type='mmpretrain.MAEPretrainDecoder',
            num_patches=(img_size // 16) ** 2,
            patch_size=16,
            embed_dim=WIDTH,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
        ),
        head=dict(
            type='mmpretrain.MAEPretrainHead',
            norm_pix=True,
            patch_size=16,
            loss=dict(
                type='mmpretrain.PixelReconstructionLoss', criterion='L2'
            ),
        ),
    )
