# FGL Faster R-CNN, ViT-B/16 with a simple feature pyramid, from 100 epochs of
# ReToD, COCO 1x.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_vit-b16-retod_sfp_8xb2-1x_coco.py 8
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

load_from = 'work_dirs/retod_vit-b16-sfp_8xb32-100e_coco/epoch_100.pth'
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.pretrained_modules),
]
