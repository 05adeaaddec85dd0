# Plain Faster R-CNN of mmdet, R50-FPN from ImageNet weights, COCO 1x: the
# baseline of the FGL config of the same name.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/faster-rcnn_r50_fpn_8xb2-1x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/det_runtime.py',
    '../_base_/tta/scales_flip.py',
]

model = dict(data_preprocessor=dict(non_blocking=True))
