# FGL Faster R-CNN on the aquarium photographs, started from the ReToD
# checkpoint.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0-retod_fpn_1xb8-400_aquarium.py
# AP: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/aquarium_detection.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/det_iters.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=7)))
load_from = (
    'work_dirs/retod_efficientnet-lite0-fpn_1xb8-400_aquarium/iter_400.pth'
)
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.pretrained_modules),
    _base_.channels_last,
    _base_.frozen_stem,
]
