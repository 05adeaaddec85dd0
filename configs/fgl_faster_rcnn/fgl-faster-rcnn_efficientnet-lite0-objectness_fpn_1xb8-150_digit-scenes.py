# The same, started from the objectness pretraining.
#   python tools/train.py configs/fgl_faster_rcnn/\
#   fgl-faster-rcnn_efficientnet-lite0-objectness_fpn_1xb8-150_digit-scenes.py
# AP: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/digit_scenes_detection.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/det_iters.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
# a short run needs large steps, and gentler ones for pretrained weights
optim_wrapper = dict(
    optimizer=dict(lr=1.5e-3),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
)
max_iters = 150
param_scheduler = [
    _base_.warm_up,
    dict(_base_.annealing, end=max_iters, T_max=max_iters - 30),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=50))
load_from = (
    'work_dirs/objectness_efficientnet-lite0-fpn_1xb8-200_digit-scenes/'
    'iter_200.pth'
)
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.pretrained_modules),
    _base_.channels_last,
    _base_.frozen_stem,
]
