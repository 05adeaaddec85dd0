# Other lengths than the 12 epochs that a config inherits. Variables, read as
# _base_.name.
warm_up = dict(
    type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500
)
steps = dict(type='MultiStepLR', begin=0, by_epoch=True, gamma=0.1)
param_scheduler_2x = [warm_up, dict(steps, end=24, milestones=[16, 22])]
param_scheduler_3x = [warm_up, dict(steps, end=36, milestones=[28, 34])]
# 12,000 iterations of 16 images (DetCo, arXiv 2102.04803)
max_iters = 12000
train_cfg_12k = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
sampler_12k = dict(type='InfiniteSampler', shuffle=True)
param_scheduler_12k = [
    warm_up,
    dict(steps, by_epoch=False, end=max_iters, milestones=[9000, 11000]),
]
checkpoint_12k = dict(by_epoch=False, interval=max_iters // 4)
