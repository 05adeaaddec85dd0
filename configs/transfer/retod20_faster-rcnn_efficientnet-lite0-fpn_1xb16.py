# Ablation of the arm retod from ImageNet weights: dense distillation weighs
# four times as much, as from random weights.
#   python tools/benchmarks/transfer.py --arms retod20 --init imagenet \
#       --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

dense = dict(_base_.dense, loss_weight=20.0, **_base_.dense_levels)
model = dict(tasks=[_base_.objectness, dense])
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.chain,
    _base_.region_probe,
    _base_.channels_last,
    _base_.frozen_stem,
]
