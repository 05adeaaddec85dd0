# ReToD of FGL Faster R-CNN, adapting the ImageNet weights of
# EfficientNet-Lite0 to the aquarium photographs (train images only, no
# labels), 400 iterations: objectness, distillation, masked regions, diversity.
#   python tools/model_converters/efficientnet_lite.py
#   python tools/train.py \
#       configs/retod/retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py
# Cost and downstream AP: not yet measured with these tasks.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/datasets/aquarium_regions.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/retod_iters.py',
]

detector = _base_.model
detector.roi_head.bbox_head.num_classes = 1  # object or not
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, _base_.distill, _base_.mask, _base_.diversity],
    head=dict(_base_.prototype_head),
    target_generator=_base_.ema_teacher,
)
model['head']['projector'].update(num_prototypes=512)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.TeacherHook', momentum=0.99, export='teacher'),
    _base_.collapse_monitor,
    dict(_base_.region_probe, branch='teacher'),
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.channels_last,
]
