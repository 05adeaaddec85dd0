# 12,000 iterations of 16 images (DetCo, arXiv 2102.04803), in place of an
# epoch schedule that a config inherits. Variables, read as _base_.name.
max_iters = 12000
train_cfg_12k = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
sampler_12k = dict(type='InfiniteSampler', shuffle=True)
param_scheduler_12k = [
    dict(
        type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500
    ),
    dict(
        type='MultiStepLR',
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[9000, 11000],
        gamma=0.1,
    ),
]
checkpoint_12k = dict(by_epoch=False, interval=max_iters // 4)
