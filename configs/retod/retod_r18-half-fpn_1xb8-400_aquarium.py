# ReToD of a half-width ResNet-18 from random weights on the aquarium
# photographs, 400 iterations.
#   python tools/train.py \
#       configs/retod/retod_r18-half-fpn_1xb8-400_aquarium.py
_base_ = [
    '../_base_/models/fgl_r18-half_fpn.py',
    '../_base_/models/retod_head.py',
    '../_base_/datasets/aquarium_regions.py',
    '../_base_/schedules/retod_runtime.py',
    '../_base_/schedules/adamw_400.py',
]

model = dict(
    type='mmfgl.ReToD',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        bgr_to_rgb=True,
        **_base_.fgl_normalise,
    ),
    backbone=_base_.fgl_backbone,
    neck=_base_.fgl_neck,
    roi_head=_base_.fgl_region_encoder,
    head=_base_.retod_head,
)
model['head']['projector'].update(
    in_channels=_base_.fgl_embed_dims, num_prototypes=512
)
custom_hooks = [
    dict(type='mmfgl.TeacherHook', momentum=0.99, export='teacher'),
    dict(type='mmfgl.UnreadableImageHook'),
]
train_cfg = dict(val_interval=_base_.max_iters + 1)
default_hooks = _base_.iter_hooks
log_processor = _base_.iter_log
randomness = dict(seed=0)
