# FGL Faster R-CNN on the aquarium photographs, started from the ReToD
# checkpoint.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0-retod_fpn_1xb8-400_aquarium.py
_base_ = './fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py'

load_from = (
    'work_dirs/retod_efficientnet-lite0-fpn_1xb8-400_aquarium/iter_400.pth'
)
custom_hooks = [
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.fgl_shared_modules),
    _base_.fgl_channels_last,
    _base_.fgl_frozen_stem,
]
