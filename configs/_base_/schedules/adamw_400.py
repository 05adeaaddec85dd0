# 400 iterations of AdamW, for a CPU.
max_iters = 400
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=10, norm_type=2),
)
warm_up = dict(
    type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30
)
annealing = dict(
    type='CosineAnnealingLR',
    by_epoch=False,
    begin=30,
    end=max_iters,
    T_max=max_iters - 30,
    eta_min_ratio=0.01,
)
param_scheduler = [warm_up, annealing]
