# The same, started from the ReToD checkpoint.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0-retod_fpn_1xb8-150_digit-scenes.py
_base_ = './fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-150_digit-scenes.py'

load_from = (
    'work_dirs/retod_efficientnet-lite0-fpn_1xb8-200_digit-scenes/iter_200.pth'
)
custom_hooks = [
    dict(
        type='mmfgl.CheckpointChainHook',
        modules=[
            *_base_.fgl_shared_modules,
            'rpn_head',
            'roi_head.bbox_head.fc_reg',
            'roi_head.bbox_head.fc_quality',
        ],
    ),
    _base_.fgl_channels_last,
    _base_.fgl_frozen_stem,
]
