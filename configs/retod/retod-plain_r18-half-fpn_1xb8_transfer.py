# The same with a half-width ResNet-18 from random weights (--init random).
_base_ = [
    './retod-plain_efficientnet-lite0-fpn_1xb8_transfer.py',
    '../_base_/models/r18-half.py',
]

model = dict(
    data_preprocessor=_base_.r18_normalise,
    backbone=dict(_delete_=True, **_base_.r18_backbone),
    neck=_base_.r18_neck,
    roi_head=dict(
        # torchvision's operator gives the same and is faster on a CPU
        bbox_roi_extractor=dict(roi_layer=dict(use_torchvision=True)),
        # one regression for all pseudo-classes: each alone sees few boxes
        bbox_head=dict(reg_class_agnostic=True),
    ),
)
# no features to tell regions apart by but colours and gradients
proposals_command = _base_.proposals_command[:-3]
load_from = None
# no checkpoint to check, no ImageNet layers to keep frozen
custom_hooks = [*_base_.custom_hooks[:4], _base_.fgl_channels_last]
# random weights gain more from twice the steps than from large batches
train_dataloader = dict(batch_size=8)
