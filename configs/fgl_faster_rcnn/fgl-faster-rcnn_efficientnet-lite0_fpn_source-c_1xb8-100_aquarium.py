# Source recipe, step c: fine-tuning of the classifier alone at 1e-4, all else
# frozen, from the checkpoint of step b. Step d is the test with --tta.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_source-c_1xb8-100_aquarium.py
#   python tools/test.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_source-c_1xb8-100_aquarium.py \
#       work_dirs/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_source-c_1xb8-100_aquarium/\
#       iter_100.pth --tta
# AP: see README.md beside this file.
_base_ = (
    './fgl-faster-rcnn_efficientnet-lite0-retod_fpn_source-b_1xb8-400'
    '_aquarium.py'
)

load_from = (
    'work_dirs/fgl-faster-rcnn_efficientnet-lite0-retod_fpn_source-b_1xb8-400'
    '_aquarium/iter_400.pth'
)
custom_hooks = [
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.source_all_modules),
    _base_.source_freeze_hook,
    _base_.fgl_channels_last,
]
max_iters = 100
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=max_iters, T_max=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
