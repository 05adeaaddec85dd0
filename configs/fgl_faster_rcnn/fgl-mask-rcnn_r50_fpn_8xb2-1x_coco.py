# FGL Mask R-CNN: FGL Faster R-CNN with the mask branch of Mask R-CNN, R50-FPN
# from ImageNet weights, COCO 1x. Box and mask AP from one run.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-mask-rcnn_r50_fpn_8xb2-1x_coco.py 8
# Cost and box and mask AP on val2017: not yet measured.
_base_ = [
    '../_base_/models/fgl-mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/det_runtime.py',
    '../_base_/tta/scales_flip.py',
]
