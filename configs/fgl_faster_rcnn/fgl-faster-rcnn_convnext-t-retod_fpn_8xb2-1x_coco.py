# FGL Faster R-CNN, ConvNeXt-T from 100 epochs of ReToD, COCO 1x.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_convnext-t-retod_fpn_8xb2-1x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_convnext-t_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_adamw_1x.py',
    '../_base_/det_runtime.py',
    '../_base_/tta/scales_flip.py',
]

model = dict(backbone=dict(pretrained=False))
load_from = 'work_dirs/retod_convnext-t-fpn_8xb64-100e_coco/epoch_100.pth'
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.pretrained_modules),
]
