# ReToD of FGL Faster R-CNN, adapting the ImageNet weights of
# EfficientNet-Lite0 to the aquarium photographs (train images only, no
# labels), 400 iterations: objectness, and backbone and pyramid that learn the
# maps of a frozen EfficientNet-Lite2.
#   python tools/model_converters/efficientnet_lite.py
#   python tools/model_converters/efficientnet_lite.py --variant 2
#   python tools/train.py \
#       configs/retod/retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py
# Cost and downstream AP: not yet measured with these tasks.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/datasets/aquarium_regions.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/retod_iters.py',
]

detector = _base_.model
detector.roi_head.bbox_head.num_classes = 1  # object or not
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
    _base_.region_probe,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.channels_last,
    _base_.frozen_stem,
]
