# Ablation of the arm retod from random weights: dense distillation weighs a
# quarter, as from ImageNet weights.
#   python tools/benchmarks/transfer.py --arms retod5 --init random \
#       --detector faster-rcnn ...
_base_ = [
    '../_base_/models/faster-rcnn_r18-half_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

cluster_by = 'colour'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = _base_.num_clusters
# one regression for all pseudo-classes: each alone sees few boxes
detector.roi_head.bbox_head.reg_class_agnostic = True
# torchvision's operator gives the same and is faster on a CPU
detector.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True
dense = dict(
    _base_.dense,
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
train_dataloader = dict(
    batch_size=8,
)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    _base_.region_probe,
    _base_.channels_last,
]
