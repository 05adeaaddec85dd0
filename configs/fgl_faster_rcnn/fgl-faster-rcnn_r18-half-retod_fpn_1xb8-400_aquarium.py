# The same, started from the ReToD checkpoint.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r18-half-retod_fpn_1xb8-400_aquarium.py
_base_ = './fgl-faster-rcnn_r18-half_fpn_1xb8-400_aquarium.py'

load_from = 'work_dirs/retod_r18-half-fpn_1xb8-400_aquarium/iter_400.pth'
custom_hooks = [
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.fgl_shared_modules),
    _base_.fgl_channels_last,
]
