# FGL Faster R-CNN, R50-FPN from 100 epochs of ReToD, 12,000
# iterations of 16 COCO images: how fast a start pays.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r50-retod_fpn_8xb2-12k_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = [
    './fgl-faster-rcnn_r50-retod_fpn_8xb2-1x_coco.py',
    '../_base_/schedules/coco_lengths.py',
]

train_cfg = dict(_delete_=True, **_base_.train_cfg_12k)
train_dataloader = dict(sampler=_base_.sampler_12k)
param_scheduler = _base_.param_scheduler_12k
default_hooks = dict(checkpoint=_base_.checkpoint_12k)
log_processor = dict(by_epoch=False)
