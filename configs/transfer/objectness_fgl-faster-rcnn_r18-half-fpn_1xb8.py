# Objectness pretraining of FGL Faster R-CNN, half-width ResNet-18 from random
# weights, on boxes of selective search and clusters of their colours and
# gradients.
#   python tools/benchmarks/transfer.py --arms objectness --init random \
#       --detector fgl ...
_base_ = [
    '../_base_/models/fgl-faster-rcnn_r18-half_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

num_clusters = 64
cluster_by = 'colour'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness],
)
# random weights gain more from twice the steps than from large batches
train_dataloader = dict(batch_size=8)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.region_probe,
    _base_.channels_last,
]
