# Plain Faster R-CNN of mmdet, R50-FPN from ImageNet weights, COCO 3x.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/faster-rcnn_r50_fpn_8xb2-3x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = [
    './faster-rcnn_r50_fpn_8xb2-1x_coco.py',
    '../_base_/schedules/coco_lengths.py',
]

train_cfg = dict(max_epochs=36)
param_scheduler = _base_.param_scheduler_3x
