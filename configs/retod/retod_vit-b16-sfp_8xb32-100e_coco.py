# ReToD, ViT-B/16 with a simple feature pyramid, 100 epochs of COCO train2017 +
# unlabeled2017.
#   bash tools/dist_train.sh \
#       configs/retod/retod_vit-b16-sfp_8xb32-100e_coco.py 8
# Add --amp on GPUs.
# Cost and downstream AP: not yet measured.
_base_ = [
    '../_base_/models/fgl_vit-b16_sfp.py',
    '../_base_/models/retod_head.py',
    '../_base_/datasets/coco_regions.py',
    '../_base_/schedules/retod_runtime.py',
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
train_dataloader = dict(batch_size=32)
sync_bn = 'torch'
max_epochs = 100
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=5e-4, betas=(0.9, 0.95), weight_decay=0.05
    ),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0)
        ),
    ),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        begin=0,
        end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        begin=10,
        end=max_epochs,
        T_max=max_epochs - 10,
        eta_min=1e-6,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False, base_batch_size=256)
