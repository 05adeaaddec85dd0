# Objectness pretraining of Faster R-CNN, half-width ResNet-18 from random
# weights, on boxes of selective search and clusters of their colours and
# gradients.
#   python tools/benchmarks/transfer.py --arms objectness --init random \
#       --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_r18-half_fpn.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

train_dataloader = dict(batch_size=8)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.region_probe,
    _base_.channels_last,
]
