# Faster R-CNN, EfficientNet-Lite0 (arXiv 1905.11946, without squeeze-excite)
# with the small family's FPN.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './small_detector.py',
]

model = dict(
    **_base_.small_detector,
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name='tf_efficientnet_lite0',
        features_only=True,
        out_indices=(2, 3, 4),
    ),
)
model['neck'].update(in_channels=[40, 112, 320])
# The layers up to stride 4 keep their ImageNet weights, as mmdet's
# frozen_stages=1 does for ResNet: a quarter less time an iteration.
frozen_stem = dict(
    type='mmfgl.FreezeHook',
    frozen=[
        'backbone.timm_model.conv_stem',
        'backbone.timm_model.bn1',
        'backbone.timm_model.blocks.0',
        'backbone.timm_model.blocks.1',
    ],
)
