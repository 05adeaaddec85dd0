# Objectness pretraining of Faster R-CNN, half-width ResNet-18 from random
# weights: boxes of the EMA teacher join those of selective search after a
# third of the run.
#   python tools/benchmarks/transfer.py --arms objectness-teacher-boxes \
#       --init random --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_r18-half_fpn.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

model = dict(
    tasks=[dict(_base_.objectness, teacher_boxes=_base_.teacher_boxes)],
    target_generator=_base_.ema_teacher,
)
train_dataloader = dict(batch_size=8)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    dict(type='mmfgl.TeacherHook', momentum=0.99, export='teacher'),
    dict(_base_.region_probe, branch='teacher'),
    _base_.channels_last,
]
