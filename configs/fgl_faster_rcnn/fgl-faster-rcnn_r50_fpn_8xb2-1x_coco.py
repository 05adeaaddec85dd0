# FGL Faster R-CNN, R50-FPN from ImageNet weights, COCO 1x.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py 8
# AP on val2017: not yet measured.
_base_ = [
    '../_base_/models/fgl_r50_fpn.py',
    '../_base_/models/fgl_rcnn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/tta/scales_flip.py',
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
# ImageNet's first layers and statistics are worth keeping
model['backbone'].update(
    frozen_stages=1,
    norm_eval=True,
    init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
)
default_hooks = dict(checkpoint=dict(type='mmfgl.AtomicCheckpointHook'))
