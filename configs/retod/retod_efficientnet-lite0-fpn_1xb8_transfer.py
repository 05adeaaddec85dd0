# ReToD as an arm of
#   python tools/benchmarks/transfer.py --arms retod --init imagenet \
#       --detector fgl ...
# which sets data, view size and length of the run.
_base_ = './retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py'

region_views_pipeline = _base_.region_views_pipeline
region_views_pipeline[0]['type'] = 'mmfgl.LoadCachedImage'
train_dataloader = dict(dataset=dict(pipeline=region_views_pipeline))
param_scheduler = []
custom_hooks = [
    dict(type='mmfgl.BudgetHook', warmup=0.05, min_lr_ratio=0.01, views=2),
    *_base_.custom_hooks,
]
