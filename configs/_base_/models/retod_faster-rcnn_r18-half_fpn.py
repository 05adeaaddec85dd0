# The same with a half-width ResNet-18 from random weights, and clusters of
# colours and gradients, which random weights tell apart sooner. The arms take
# batches of 8: twice the steps bring more here than large batches.
_base_ = ['./faster-rcnn_r18-half_fpn.py', './retod_tasks.py']

num_clusters = 64
cluster_by = 'colour'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
# one regression for all pseudo-classes: each alone sees few boxes
detector.roi_head.bbox_head.reg_class_agnostic = True
# torchvision's operator gives the same and is faster on a CPU
detector.roi_head.bbox_roi_extractor.roi_layer.use_torchvision = True
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness],
)
dense_levels = dict(
    backbone=[(64, 0), (128, 1), (256, 2)], neck=[(64, 0), (64, 1), (64, 2)]
)
