# ReToD of Faster R-CNN, EfficientNet-Lite0 from ImageNet weights, whose
# features make the 64 clusters: for arms of transfer.py, which list their
# tasks if it is not objectness alone. `dense_levels` are the levels of dense
# distillation, the teacher of which is in lite2_teacher.py.
_base_ = ['./faster-rcnn_efficientnet-lite0_fpn.py', './retod_tasks.py']

num_clusters = 64
cluster_by = 'backbone'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness],
)
dense_levels = dict(
    backbone=[(40, 0), (112, 1), (320, 2)], neck=[(64, 0), (64, 1), (64, 2)]
)
chain = dict(type='mmfgl.CheckpointChainHook', modules=['backbone'])
