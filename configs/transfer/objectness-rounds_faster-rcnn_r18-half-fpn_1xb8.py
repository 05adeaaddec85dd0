# The arm objectness in two rounds, half-width ResNet-18 from random weights:
# the second learns from what the first finds and from the search, together,
# and starts from its weights; each has half of the time.
#   python tools/benchmarks/transfer.py --arms objectness-rounds \
#       --init random --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_r18-half_fpn.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

rounds = 2
train_dataloader = dict(batch_size=8)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.region_probe,
    _base_.channels_last,
]
