# The same by the objectness task alone, which needs no teacher.
#   python tools/model_converters/efficientnet_lite.py
#   python tools/train.py \
#       configs/retod/objectness_efficientnet-lite0-fpn_1xb8-400_aquarium.py
# Cost and downstream AP: not yet measured.
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
    tasks=[_base_.objectness],
)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.region_probe,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.channels_last,
    _base_.frozen_stem,
]
