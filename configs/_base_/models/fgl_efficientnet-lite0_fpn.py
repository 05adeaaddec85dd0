# Model base of the small family: EfficientNet-Lite0 (arXiv 1905.11946, without
# squeeze-excite), FPN-64 from stride 8. For quickstart, tests and experiments
# on a CPU.
_base_ = './fgl_r50_fpn.py'

fgl_normalise = dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5])
fgl_backbone = dict(
    _delete_=True,
    type='mmpretrain.TIMMBackbone',
    model_name='tf_efficientnet_lite0',
    features_only=True,
    out_indices=(2, 3, 4),
)
fgl_neck = dict(in_channels=[40, 112, 320], out_channels=64, num_outs=4)
fgl_rpn_head = dict(
    in_channels=64,
    feat_channels=64,
    anchor_generator=dict(scales=[2, 4], strides=[8, 16, 32, 64]),
)
fgl_region_encoder = dict(
    bbox_roi_extractor=dict(
        out_channels=64, featmap_strides=[8, 16, 32], finest_scale=56
    ),
    tokenizer=dict(in_channels=64, squeeze_channels=None),
)
# Depthwise convolutions are faster so on a CPU.
fgl_channels_last = dict(type='mmfgl.ChannelsLastHook')
# The layers up to stride 4 keep their ImageNet weights, as mmdet's
# frozen_stages=1 does for ResNet: a quarter less time an iteration.
fgl_frozen_stem = dict(
    type='mmfgl.FreezeHook',
    frozen=[
        'backbone.timm_model.conv_stem',
        'backbone.timm_model.bn1',
        'backbone.timm_model.blocks.0',
        'backbone.timm_model.blocks.1',
    ],
)
