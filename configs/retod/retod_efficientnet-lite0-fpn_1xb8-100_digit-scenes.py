# ReToD, adapting ImageNet weights to the unlabelled digit scenes, 100
# iterations: the pretraining of `make quickstart`.
#   python tools/dataset_converters/digit_scenes.py
#   python tools/model_converters/efficientnet_lite0.py
#   python tools/train.py configs/retod/\
#       retod_efficientnet-lite0-fpn_1xb8-100_digit-scenes.py
_base_ = './retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py'

data_root = 'data/digit_scenes/'
region_views_pipeline = _base_.region_views_pipeline
# a mirrored digit is no digit
region_views_pipeline[1].update(flip_prob=0.0)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path='unlabelled/'),
        pipeline=region_views_pipeline,
    )
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
)
max_iters = 100
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, T_max=max_iters - 30)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
default_hooks = dict(checkpoint=dict(interval=max_iters))
