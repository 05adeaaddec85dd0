# Plain Mask R-CNN, the baseline beside the FGL config that it inherits.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/mask-rcnn_r50-retod_fpn_8xb2-1x_coco.py 8
# Cost and box and mask AP on val2017: not yet measured.
_base_ = [
    './fgl-mask-rcnn_r50-retod_fpn_8xb2-1x_coco.py',
    '../_base_/models/plain_roi_head.py',
]

model = dict(
    type='MaskRCNN',
    roi_head=dict(
        _delete_=True, **_base_.plain_roi_head, **_base_.mask_branch
    ),
)
custom_hooks = [
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone', 'neck'])
]
