# Objectness and region embeddings: Faster R-CNN, half-width ResNet-18 from
# random weights, also learns what EfficientNet-Lite2 sees in the crop of each
# box. The clusters stay those of colours and gradients, which random weights
# tell apart sooner than what an ImageNet model sees.
#   python tools/benchmarks/transfer.py --arms objectness-embed \
#       --init random --detector faster-rcnn ...
_base_ = [
    '../_base_/models/faster-rcnn_r18-half_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/models/region_teacher.py',
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
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, _base_.embed],
)
# random weights gain more from twice the steps than from large batches
train_dataloader = dict(
    batch_size=8,
)
custom_hooks = [
    *_base_.guards,
    _base_.budget,
    dict(type='mmfgl.RegionTeacherHook'),
    _base_.region_probe,
    _base_.channels_last,
]
