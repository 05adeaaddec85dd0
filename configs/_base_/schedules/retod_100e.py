# 100 epochs of AdamW, for batches of 512.
max_epochs = 100
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=3.0),
)
warm_up = dict(
    type='LinearLR',
    start_factor=1e-4,
    begin=0,
    end=5,
    convert_to_iter_based=True,
)
annealing = dict(
    type='CosineAnnealingLR',
    begin=5,
    end=max_epochs,
    T_max=max_epochs - 5,
    eta_min=1e-6,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, annealing]
auto_scale_lr = dict(enable=False, base_batch_size=512)
