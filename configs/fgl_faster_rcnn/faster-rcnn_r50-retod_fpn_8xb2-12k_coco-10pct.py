# Plain Faster R-CNN, the baseline beside the FGL config that it inherits,
# 10 % of the labels of COCO train2017.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       faster-rcnn_r50-retod_fpn_8xb2-12k_coco-10pct.py 8
# Folds: see that config.
# Cost and AP on val2017: not yet measured.
_base_ = [
    './fgl-faster-rcnn_r50-retod_fpn_8xb2-12k_coco-10pct.py',
    '../_base_/models/plain_roi_head.py',
]

model = dict(
    type='FasterRCNN', roi_head=dict(_delete_=True, **_base_.plain_roi_head)
)
custom_hooks = [
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone', 'neck'])
]
