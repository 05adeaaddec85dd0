# A part, for pretraining configs: DINOv2 ViT-S/14 (arXiv 2304.07193, weights
# under Apache 2.0) as the frozen teacher of dense distillation: maps of its
# 4th, 8th and last layer, all at stride 14. Its weights are those of
# MMPretrain, `mim download mmpretrain --config
# vit-small-p14_dinov2-pre_3rdparty --dest checkpoints`, renamed:
dinov2_weights = 'checkpoints/dinov2_vit-small-p14.pth'
frozen_teacher = dict(
    type='mmfgl.FrozenTeacher',
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='dinov2-small',
        img_size=518,
        patch_size=14,
        layer_scale_init_value=1e-5,
        out_type='featmap',
        out_indices=(3, 7, 11),
    ),
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    init_cfg=dict(type='Pretrained', checkpoint=dinov2_weights),
)
dense = dict(
    type='mmfgl.DenseDistillTask', teacher=frozen_teacher, loss_weight=5.0
)
