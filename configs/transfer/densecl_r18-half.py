# The same with a half-width ResNet-18 from random weights (--init random).
_base_ = [
    './densecl_efficientnet-lite0.py',
    '../_base_/models/r18-half.py',
]

model = dict(
    data_preprocessor=_base_.r18_normalise,
    backbone=dict(_delete_=True, **_base_.r18_backbone),
    neck=dict(in_channels=256),
)
model['backbone']['out_indices'] = (3,)
load_from = None
# no checkpoint to check
custom_hooks = [*_base_.custom_hooks[:2], _base_.fgl_channels_last]
