# FGL Faster R-CNN, ViT-B/16 with a simple feature pyramid, from a plain MAE
# checkpoint of mmpretrain, COCO 1x. The recipe is ViTDet's (AdamW, layer-wise
# learning rates, drop path) at the 1x schedule and image size.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_vit-b16-mae_sfp_8xb2-1x_coco.py 8
# Add --amp on GPUs: attention is global, and in half precision it takes the
# memory-saving kernel.
# Cost and AP on val2017: not yet measured.
_base_ = [
    '../_base_/models/fgl_vit-b16_sfp.py',
    '../_base_/models/fgl_rcnn.py',
    'mmdet::_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    'mmdet::_base_/default_runtime.py',
    '../_base_/tta/scales_flip.py',
]

model = dict(
    type='mmfgl.FGLFasterRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        bgr_to_rgb=True,
        pad_size_divisor=32,
        **_base_.fgl_normalise,
    ),
    backbone=dict(_base_.fgl_backbone, drop_path_rate=0.1),
    neck=_base_.fgl_neck,
    rpn_head=_base_.fgl_rpn_head,
    roi_head=dict(
        **_base_.fgl_region_encoder,
        selector=_base_.fgl_selector,
        bbox_head=_base_.fgl_bbox_head,
    ),
    train_cfg=_base_.fgl_train_cfg,
    test_cfg=_base_.fgl_test_cfg,
)
load_from = (
    'https://mmassets.onedl.ai/mmselfsup/1.x/mae/'
    'mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k/'
    'mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k_20220825-f7569ca2.pth'
)
custom_hooks = [
    dict(
        type='mmfgl.CheckpointChainHook',
        modules=['backbone'],
        # MAE calls its decoder a neck
        revise_keys=[(r'^neck\.', 'mae_decoder.')],
    )
]
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.1),
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.pos_embed': dict(decay_mult=0.0),
        },
    ),
)
default_hooks = dict(checkpoint=dict(type='mmfgl.AtomicCheckpointHook'))
