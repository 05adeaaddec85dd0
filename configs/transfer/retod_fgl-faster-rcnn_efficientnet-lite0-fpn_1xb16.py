# ReToD of FGL Faster R-CNN: objectness, and backbone and pyramid that learn
# the maps of a frozen EfficientNet-Lite2 besides.
#   python tools/benchmarks/transfer.py --arms retod --init imagenet \
#       --detector fgl ...
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

num_clusters = 64
cluster_by = 'backbone'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
dense = dict(
    _base_.dense,
    backbone=[(40, 0), (112, 1), (320, 2)],
    neck=[(64, 0), (64, 1), (64, 2)],
)
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, dense],
)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.region_probe,
    _base_.channels_last,
    _base_.frozen_stem,
]
