# FGL Faster R-CNN, R50-FPN from 100 epochs of ReToD, COCO 2x.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-faster-rcnn_r50-retod_fpn_8xb2-2x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = [
    './fgl-faster-rcnn_r50-retod_fpn_8xb2-1x_coco.py',
    '../_base_/schedules/coco_lengths.py',
]

train_cfg = dict(max_epochs=24)
param_scheduler = _base_.param_scheduler_2x
