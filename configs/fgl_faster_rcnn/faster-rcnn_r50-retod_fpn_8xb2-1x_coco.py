# Plain Faster R-CNN of mmdet, R50-FPN from 100 epochs of ReToD, COCO 1x: the
# baseline of the FGL config of the same name.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/faster-rcnn_r50-retod_fpn_8xb2-1x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/det_runtime.py',
    '../_base_/tta/scales_flip.py',
]

# no ImageNet layers or statistics to keep
model = dict(
    data_preprocessor=dict(non_blocking=True),
    backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None),
)
sync_bn = 'torch'
load_from = 'work_dirs/retod_r50-fpn_8xb64-100e_coco/epoch_100.pth'
custom_hooks = [
    *_base_.guards,
    dict(
        type='mmfgl.CheckpointChainHook',
        modules=['backbone', 'neck', 'rpn_head'],
    ),
]
