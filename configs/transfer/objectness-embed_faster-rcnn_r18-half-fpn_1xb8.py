# Objectness and region embeddings: Faster R-CNN, half-width ResNet-18 from
# random weights, also learns what EfficientNet-Lite2 sees in the crop of each
# box. The clusters stay those of colours and gradients, which random weights
# tell apart sooner than what an ImageNet model sees.
#   python tools/benchmarks/transfer.py --arms objectness-embed \
#       --init random --detector faster-rcnn ...
_base_ = [
    '../_base_/models/retod_faster-rcnn_r18-half_fpn.py',
    '../_base_/models/region_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

model = dict(tasks=[_base_.objectness, _base_.embed])
train_dataloader = dict(batch_size=8)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    dict(type='mmfgl.RegionTeacherHook'),
    _base_.region_probe,
    _base_.channels_last,
]
