# Ablation of the arm retod: backbone and pyramid learn the maps of
# a frozen EfficientNet-Lite2, nothing else.
#   python tools/benchmarks/transfer.py --arms dense \
#       --init random --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_r18-half_fpn.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

dense = dict(_base_.dense, **_base_.dense_levels)
model = dict(tasks=[dense])
train_dataloader = dict(batch_size=8)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.region_probe,
    _base_.channels_last,
]
