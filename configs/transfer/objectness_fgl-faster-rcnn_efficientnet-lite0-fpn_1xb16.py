# Objectness pretraining of FGL Faster R-CNN, from ImageNet weights: the
# detector's own modules learn to find the boxes of selective search and to
# tell apart 64 clusters of what ImageNet features see in them.
#   python tools/benchmarks/transfer.py --arms objectness --init imagenet \
#       --detector fgl ...
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

num_clusters = 64
cluster_by = 'backbone'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness],
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
