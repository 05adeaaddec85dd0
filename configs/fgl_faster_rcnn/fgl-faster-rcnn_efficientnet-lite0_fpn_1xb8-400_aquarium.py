# FGL Faster R-CNN from the ImageNet weights of EfficientNet-Lite0, aquarium
# photographs, 400 iterations.
#   python tools/model_converters/efficientnet_lite.py
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py
# AP: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/aquarium_detection.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/det_iters.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=7)))
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.channels_last,
    _base_.frozen_stem,
]
