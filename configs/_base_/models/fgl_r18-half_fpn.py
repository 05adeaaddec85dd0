# Model base with a half-width ResNet-18, for experiments from random weights.
_base_ = './fgl_efficientnet-lite0_fpn.py'

fgl_normalise = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
fgl_backbone = dict(
    _delete_=True,
    type='mmdet.ResNet',
    depth=18,
    base_channels=32,
    stem_channels=32,
    num_stages=4,
    out_indices=(1, 2, 3),
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
    style='pytorch',
)
fgl_neck = dict(in_channels=[64, 128, 256])
