# ReToD of FGL Faster R-CNN: objectness, and backbone and pyramid that learn
# the maps of a frozen EfficientNet-Lite2 besides.
#   python tools/benchmarks/transfer.py --arms retod --init random \
#       --detector fgl ...
_base_ = [
    '../_base_/models/fgl-faster-rcnn_r18-half_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

num_clusters = 64
cluster_by = 'colour'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
dense = dict(
    _base_.dense,
    loss_weight=20.0,  # random weights have more to learn
    backbone=[(64, 0), (128, 1), (256, 2)],
    neck=[(64, 0), (64, 1), (64, 2)],
)
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, dense],
)
# random weights gain more from twice the steps than from large batches
train_dataloader = dict(batch_size=8)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.region_probe,
    _base_.channels_last,
]
