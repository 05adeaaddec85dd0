# Objectness and dense distillation: backbone and pyramid of Faster R-CNN, from
# ImageNet weights, learn the maps of a frozen EfficientNet-Lite2 besides.
#   python tools/benchmarks/transfer.py --arms objectness-dense \
#       --init imagenet --detector faster-rcnn ...
_base_ = [
    './objectness_faster-rcnn_efficientnet-lite0-fpn_1xb16.py',
    '../_base_/models/lite2_teacher.py',
]

dense = dict(
    type='mmfgl.DenseDistillTask',
    teacher=_base_.frozen_teacher,
    backbone=[(40, 0), (112, 1), (320, 2)],
    neck=[(64, 0), (64, 1), (64, 2)],
    loss_weight=5.0,
)
model = dict(tasks=[_base_.objectness, dense])
