# ReToD as an arm of
#   python tools/benchmarks/transfer.py --arms retod --init imagenet \
#       --detector fgl ...
# which sets data, view size and length of the run.
# In the few minutes of a budget there the objectness task pays most: the
# detector's own modules learn to find the boxes of selective search, and to
# tell apart 64 clusters of what these show. So it is the only task here, on
# one view an image, and the trained weights themselves are exported: nothing
# reads the teacher.
_base_ = [
    './retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py',
    '../_base_/models/retod_objectness_small.py',
]

num_clusters = 64
proposals_command = [
    'tools/dataset_converters/propose_regions.py',
    '{images}',
    '--out={proposals}',
    '--workers=2',
    f'--clusters={num_clusters}',
    '--cfg-options',
    'mode=single',
    'max_regions=15',
    # pseudo-classes by what ImageNet features tell apart
    '--features',
    'configs/retod/retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py',
    '{weights}',
]
model = dict(
    symmetric=False,
    rpn_head=_base_.fgl_rpn_head,
    objectness=_base_.retod_objectness,
    roi_head=dict(bbox_head=_base_.retod_bbox_head),
    head=dict(
        loss_distill=None, loss_mask=None, loss_coord=None, loss_giou=None
    ),
)
model['roi_head']['bbox_head'].update(num_classes=num_clusters)
region_views_pipeline = _base_.region_views_pipeline
region_views_pipeline[0]['type'] = 'mmfgl.LoadCachedImage'
region_views_pipeline[1].update(max_objects=10, num_regions=2)
region_views_pipeline[1]['object_proposer'] = dict(
    type='mmfgl.FileRegions', ann_file='{proposals}', max_regions=10
)
train_dataloader = dict(
    batch_size=16, dataset=dict(pipeline=region_views_pipeline)
)
param_scheduler = []
custom_hooks = [
    dict(type='mmfgl.BudgetHook', warmup=0.05, min_lr_ratio=0.01, views=1),
    dict(type='mmfgl.TeacherHook', momentum=0.99, export='student'),
    dict(type='mmfgl.UnreadableImageHook'),
    dict(type='mmfgl.NonFiniteGuardHook', action='skip', max_skips=5),
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.fgl_channels_last,
    _base_.fgl_frozen_stem,
]
