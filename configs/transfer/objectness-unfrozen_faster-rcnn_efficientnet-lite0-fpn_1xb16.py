# Ablation of the arm objectness: every layer is trained, as in the arms of the
# peers; the others freeze the layers up to stride 4.
#   python tools/benchmarks/transfer.py --arms objectness-unfrozen \
#       --init imagenet --detector faster-rcnn ...
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
]
