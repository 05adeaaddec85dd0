# Half-width ResNet-18 in place of the small family's EfficientNet-Lite0, for
# experiments from random weights. Neutral variables, read as _base_.name.
r18_normalise = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
r18_backbone = dict(
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
r18_neck = dict(in_channels=[64, 128, 256])
