# The arm objectness in two rounds, from ImageNet weights: the second learns
# from what the first finds and from the search, together, and starts from its
# weights; each has half of the time.
#   python tools/benchmarks/transfer.py --arms objectness-rounds \
#       --init imagenet --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

rounds = 2
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.chain,
    _base_.region_probe,
    _base_.channels_last,
    _base_.frozen_stem,
]
