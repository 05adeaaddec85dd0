# FGL Faster R-CNN, ConvNeXt-T from timm's ImageNet weights, COCO 1x.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_convnext-t_fpn_8xb2-1x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_convnext-t_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_adamw_1x.py',
    '../_base_/det_runtime.py',
    '../_base_/tta/scales_flip.py',
]
