# ReToD, adapting the ImageNet weights of EfficientNet-Lite0 to the aquarium
# photographs (train images only, no labels), 400 iterations.
#   python tools/model_converters/efficientnet_lite0.py
#   python tools/train.py \
#       configs/retod/retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py
# Cost and downstream AP: see README.md beside this file.
_base_ = [
    '../_base_/models/fgl_efficientnet-lite0_fpn.py',
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
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    dict(type='mmfgl.TeacherHook', momentum=0.99, export='teacher'),
    dict(type='mmfgl.UnreadableImageHook'),
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.fgl_channels_last,
    *_base_.run_guards,
]
train_cfg = dict(val_interval=_base_.max_iters + 1)
default_hooks = _base_.iter_hooks
log_processor = _base_.iter_log
randomness = dict(seed=0)
