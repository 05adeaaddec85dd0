# Model base of the R50-FPN family. Neutral variables, read as _base_.name by
# the pretraining AND the detection config, so that the two cannot drift.
fgl_embed_dims = 512
fgl_normalise = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
)
# No frozen stage and trained BatchNorm: a self-supervised backbone's first
# layers and statistics are not ImageNet's.
fgl_backbone = dict(
    type='mmdet.ResNet',
    depth=50,
    num_stages=4,
    out_indices=(0, 1, 2, 3),
    frozen_stages=-1,
    norm_cfg=dict(type='BN', requires_grad=True),
    norm_eval=False,
    style='pytorch',
)
fgl_neck = dict(
    type='mmdet.FPN',
    in_channels=[256, 512, 1024, 2048],
    out_channels=256,
    num_outs=5,
)
fgl_rpn_head = dict(
    _scope_='mmdet',
    type='RPNHead',
    in_channels=256,
    feat_channels=256,
    anchor_generator=dict(
        type='AnchorGenerator',
        scales=[8],
        ratios=[0.5, 1.0, 2.0],
        strides=[4, 8, 16, 32, 64],
    ),
    bbox_coder=dict(
        type='DeltaXYWHBBoxCoder',
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=[1.0, 1.0, 1.0, 1.0],
    ),
    loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
    loss_bbox=dict(type='L1Loss', loss_weight=1.0),
)
# Everything between the pyramid and the box head.
fgl_region_encoder = dict(
    type='mmfgl.FGLRoIHead',
    bbox_roi_extractor=dict(
        type='mmfgl.FGLRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32],
    ),
    tokenizer=dict(
        type='mmfgl.RegionTokenizer',
        in_channels=256,
        embed_dims=fgl_embed_dims,
        squeeze_channels=48,
    ),
    transformer=dict(
        type='mmfgl.RegionTransformer',
        embed_dims=fgl_embed_dims,
        num_heads=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        attention_dims=256,
        ffn_ratio=1.0,
    ),
    attention=dict(low=0.1, high=1.0),
)
# Modules that a pretraining checkpoint must load completely.
fgl_shared_modules = [
    'backbone',
    'neck',
    'roi_head.bbox_roi_extractor',
    'roi_head.tokenizer',
    'roi_head.transformer',
]
