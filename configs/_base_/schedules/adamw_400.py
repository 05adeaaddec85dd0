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
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=30,
        end=max_iters,
        T_max=max_iters - 30,
        eta_min_ratio=0.01,
    ),
]
# The runtime bases define default_hooks and log_processor too, and two bases
# may not define one key: configs read these as _base_.iter_hooks, ...
iter_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(
        type='mmfgl.AtomicCheckpointHook',
        by_epoch=False,
        interval=max_iters,
        max_keep_ckpts=2,
    ),
)
iter_log = dict(type='LogProcessor', window_size=10, by_epoch=False)
