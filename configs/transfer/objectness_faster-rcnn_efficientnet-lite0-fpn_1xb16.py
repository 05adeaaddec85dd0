# Objectness pretraining of Faster R-CNN, from ImageNet weights: the detector's
# own modules learn to find the boxes of selective search and to tell apart 64
# clusters of what ImageNet features see in them.
#   python tools/benchmarks/transfer.py --arms objectness --init imagenet \
#       --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.chain,
    _base_.region_probe,
    _base_.channels_last,
    _base_.frozen_stem,
]
