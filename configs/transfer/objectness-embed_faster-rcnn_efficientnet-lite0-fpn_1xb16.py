# Objectness and region embeddings: Faster R-CNN, from ImageNet weights, also
# learns what EfficientNet-Lite2 sees in the crop of each box; the clusters are
# made of the same embeddings.
#   python tools/benchmarks/transfer.py --arms objectness-embed \
#       --init imagenet --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/region_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

cluster_by = 'teacher'
model = dict(tasks=[_base_.objectness, _base_.embed])
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.chain,
    dict(type='mmfgl.RegionTeacherHook'),
    _base_.region_probe,
    _base_.channels_last,
    _base_.frozen_stem,
]
