# Objectness, prototypes of the EMA teacher of the same region in the other
# view, masked regions and diversity, their plain sum: what the region
# Transformer of FGL may gain by pretraining, against the arm objectness.
#   python tools/benchmarks/transfer.py --arms objectness-masked \
#       --init imagenet --detector fgl ...
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/datasets/transfer_regions.py',
    '../_base_/transfer_runtime.py',
]

num_clusters = 64
cluster_by = 'backbone'
detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, _base_.distill, _base_.mask, _base_.diversity],
    head=dict(_base_.prototype_head),
    target_generator=_base_.ema_teacher,
)
model['head']['projector'].update(num_prototypes=512)
train_dataloader = dict(dataset=dict(pipeline=_base_.two_view_pipeline))
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    dict(_base_.budget, views=2),
    dict(type='mmfgl.TeacherHook', momentum=0.99, export='teacher'),
    _base_.collapse_monitor,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    dict(_base_.region_probe, branch='teacher'),
    _base_.channels_last,
    _base_.frozen_stem,
]
