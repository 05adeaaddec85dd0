# FGL Faster R-CNN from the ImageNet weights of EfficientNet-Lite0, aquarium
# photographs, 400 iterations.
#   python tools/model_converters/efficientnet_lite0.py
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py
# Expected: see README.md beside this file.
_base_ = [
    '../_base_/models/fgl_efficientnet-lite0_fpn.py',
    '../_base_/models/fgl_rcnn_small.py',
    '../_base_/datasets/aquarium_detection.py',
    '../_base_/tta/scales_flip.py',
    '../_base_/schedules/adamw_400.py',
    'mmdet::_base_/default_runtime.py',
]

model = dict(
    type='mmfgl.FGLFasterRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        bgr_to_rgb=True,
        pad_size_divisor=32,
        **_base_.fgl_normalise,
    ),
    backbone=_base_.fgl_backbone,
    neck=_base_.fgl_neck,
    rpn_head=_base_.fgl_rpn_head,
    roi_head=dict(
        **_base_.fgl_region_encoder,
        selector=_base_.fgl_selector,
        bbox_head=_base_.fgl_bbox_head,
    ),
    train_cfg=_base_.fgl_train_cfg,
    test_cfg=_base_.fgl_test_cfg,
)
model['roi_head']['bbox_head']['num_classes'] = 7
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.fgl_channels_last,
    _base_.fgl_frozen_stem,
]
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = _base_.iter_hooks
log_processor = _base_.iter_log
randomness = dict(seed=0)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type='Resize', scale=(side, side), keep_ratio=True)
    for side in (256, 320, 400)
]
