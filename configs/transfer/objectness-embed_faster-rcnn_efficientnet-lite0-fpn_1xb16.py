# Objectness and region embeddings: Faster R-CNN, from ImageNet weights, also
# learns what EfficientNet-Lite2 sees in the crop of each box; the clusters are
# made of the same embeddings.
#   python tools/benchmarks/transfer.py --arms objectness-embed \
#       --init imagenet --detector faster-rcnn ...
_base_ = [
    '../_base_/models/faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/models/region_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

cluster_by = 'teacher'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = _base_.num_clusters
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, _base_.embed],
)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    dict(type='mmfgl.RegionTeacherHook'),
    _base_.region_probe,
    _base_.channels_last,
    _base_.frozen_stem,
]
