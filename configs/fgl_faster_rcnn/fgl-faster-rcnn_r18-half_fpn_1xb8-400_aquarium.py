# FGL Faster R-CNN with a half-width ResNet-18 from random weights, aquarium
# photographs, 400 iterations: the random start of the experiments.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r18-half_fpn_1xb8-400_aquarium.py
# AP: not yet measured.
_base_ = [
    './fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py',
    '../_base_/models/r18-half.py',
]

model = dict(
    data_preprocessor=_base_.r18_normalise,
    backbone=dict(_delete_=True, **_base_.r18_backbone),
    neck=_base_.r18_neck,
)
load_from = None
custom_hooks = [_base_.fgl_channels_last]
