# Objectness pretraining of Faster R-CNN, from ImageNet weights: boxes of the
# EMA teacher join those of selective search after a third of the run.
#   python tools/benchmarks/transfer.py --arms objectness-teacher-boxes \
#       --init imagenet --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

model = dict(
    tasks=[dict(_base_.objectness, teacher_boxes=_base_.teacher_boxes)],
    target_generator=_base_.ema_teacher,
)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    dict(type='mmfgl.TeacherHook', momentum=0.99, export='teacher'),
    _base_.chain,
    dict(_base_.region_probe, branch='teacher'),
    _base_.channels_last,
    _base_.frozen_stem,
]
