# A part, for pretraining configs: EfficientNet-Lite2, ImageNet weights, as the
# frozen teacher of dense distillation: maps at strides 8, 16 and 32. Write its
# weights with
#   python tools/model_converters/efficientnet_lite.py --variant 2 \
#       --out checkpoints/efficientnet-lite2_imagenet.pth
frozen_teacher = dict(
    type='mmfgl.FrozenTeacher',
    backbone=dict(
        type='mmpretrain.TIMMBackbone',
        model_name='tf_efficientnet_lite2',
        features_only=True,
        out_indices=(2, 3, 4),
    ),
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='checkpoints/efficientnet-lite2_imagenet.pth',
    ),
)
dense = dict(
    type='mmfgl.DenseDistillTask', teacher=frozen_teacher, loss_weight=5.0
)
