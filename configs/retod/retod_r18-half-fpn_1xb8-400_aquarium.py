# ReToD of a half-width ResNet-18 from random weights on the aquarium
# photographs, 400 iterations.
#   python tools/train.py configs/retod/retod_r18-half-fpn_1xb8-400_aquarium.py
# Cost and downstream AP: not yet measured.
_base_ = [
    './retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py',
    '../_base_/models/r18-half.py',
]

model = dict(
    data_preprocessor=_base_.r18_normalise,
    backbone=dict(_delete_=True, **_base_.r18_backbone),
    neck=_base_.r18_neck,
)
load_from = None
# no checkpoint to check
custom_hooks = [*_base_.custom_hooks[:2], *_base_.run_guards]
