# Plain Faster R-CNN of mmdet, R50-FPN from ImageNet weights, COCO 2x.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/faster-rcnn_r50_fpn_8xb2-2x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = './faster-rcnn_r50_fpn_8xb2-1x_coco.py'

max_epochs = 24
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
        milestones=[16, 22],
        gamma=0.1,
    ),
]
