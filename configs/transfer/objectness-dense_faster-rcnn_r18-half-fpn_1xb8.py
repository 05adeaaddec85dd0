# Objectness and dense distillation: backbone and pyramid of Faster R-CNN, from
# random weights, learn the maps of a frozen EfficientNet-Lite2 besides.
#   python tools/benchmarks/transfer.py --arms objectness-dense --init random \
#       --detector faster-rcnn ...
_base_ = [
    './objectness_faster-rcnn_r18-half-fpn_1xb8.py',
    '../_base_/models/lite2_teacher.py',
]

dense = dict(
    type='mmfgl.DenseDistillTask',
    teacher=_base_.frozen_teacher,
    backbone=[(64, 0), (128, 1), (256, 2)],
    neck=[(64, 0), (64, 1), (64, 2)],
    loss_weight=5.0,
)
model = dict(tasks=[_base_.objectness, dense])
