# FGL Faster R-CNN, R50-FPN from ImageNet weights, COCO 3x.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-faster-rcnn_r50_fpn_8xb2-3x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = './fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py'

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, milestones=[28, 34])
