# FGL Mask R-CNN, R50-FPN from 100 epochs of ReToD, COCO 1x.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-mask-rcnn_r50-retod_fpn_8xb2-1x_coco.py 8
# Cost and box and mask AP on val2017: not yet measured.
_base_ = [
    '../_base_/models/fgl-mask-rcnn_r50_fpn.py',
    '../_base_/datasets/coco_instance.py',
    'mmdet::_base_/schedules/schedule_1x.py',
    '../_base_/det_runtime.py',
    '../_base_/tta/scales_flip.py',
]

# no ImageNet layers or statistics to keep
model = dict(backbone=dict(frozen_stages=-1, norm_eval=False, init_cfg=None))
sync_bn = 'torch'
load_from = 'work_dirs/retod_r50-fpn_8xb64-100e_coco/epoch_100.pth'
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.pretrained_modules),
]
