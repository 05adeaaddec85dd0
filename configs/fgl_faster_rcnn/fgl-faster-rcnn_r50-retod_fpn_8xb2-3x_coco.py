# FGL Faster R-CNN, R50-FPN from 100 epochs of ReToD, COCO 3x.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-faster-rcnn_r50-retod_fpn_8xb2-3x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = './fgl-faster-rcnn_r50-retod_fpn_8xb2-1x_coco.py'

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_epochs,
        by_epoch=True,
        milestones=[28, 34],
        gamma=0.1,
    ),
]
