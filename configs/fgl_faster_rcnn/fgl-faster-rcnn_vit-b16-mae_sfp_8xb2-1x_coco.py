# FGL Faster R-CNN, ViT-B/16 with a simple feature pyramid, from a plain MAE
# checkpoint of mmpretrain, COCO 1x. The recipe is ViTDet's (AdamW, layer-wise
# learning rates, drop path) at the 1x schedule and image size.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_vit-b16-mae_sfp_8xb2-1x_coco.py 8
# Add --amp on GPUs: attention is global, and in half precision it takes the
# memory-saving kernel.
# Cost and AP on val2017: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_vit-b16_sfp.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_vit_1x.py',
    '../_base_/det_runtime.py',
    '../_base_/tta/scales_flip.py',
]

load_from = (
    'https://mmassets.onedl.ai/mmselfsup/1.x/mae/'
    'mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k/'
    'mae_vit-base-p16_8xb512-fp16-coslr-1600e_in1k_20220825-f7569ca2.pth'
)
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
]
