# A part, for configs/transfer: MMPretrain's methods, and the distillation of
# LightlyTrain, without their backbone; the optimizers published with them.
#
# mocov2_resnet50_8xb32-coslr-200e_in1k.py. Kept: SGD, learning rate 0.03 a
# batch of 256 (linear in the batch), weight decay, temperature,
# augmentations. Scaled to a run of some hundred iterations: the key encoder
# follows at 0.01 a step as in the authors' CIFAR recipe (0.001 would leave it
# near its start); the queue holds keys of half an epoch, so that it rarely
# has another view of the same image as a negative (transfer.py sets it).
mocov2 = dict(
    _scope_='mmpretrain',
    type='MoCo',
    queue_len=224,
    feat_dim=128,
    momentum=0.01,
    neck=dict(
        type='MoCoV2Neck',
        hid_channels=2048,
        out_channels=128,
        with_avg_pool=True,
    ),
    head=dict(
        type='ContrastiveHead',
        loss=dict(type='CrossEntropyLoss'),
        temperature=0.2,
    ),
)
mocov2_optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.03 * 32 / 256, weight_decay=1e-4, momentum=0.9
    ),
)
mocov2_budget = dict(
    type='mmfgl.BudgetHook', warmup=0.0, min_lr_ratio=0.0, views=2
)
# densecl_resnet50_8xb32-coslr-200e_in1k.py, which is MoCo v2 with another neck
# and loss.
densecl = dict(
    mocov2,
    type='DenseCL',
    loss_lambda=0.5,
    neck=dict(
        type='DenseCLNeck',
        hid_channels=2048,
        out_channels=128,
        num_grid=None,
    ),
)
# byol_resnet50_16xb256-coslr-200e_in1k.py. Kept: LARS, learning rate 4.8 a
# batch of 4096 (linear in the batch), warm-up of 5 % of the run, momentum 0.01
# on a cosine to 0, augmentations.
byol_mlp = dict(
    type='NonLinearNeck',
    hid_channels=4096,
    out_channels=256,
    num_layers=2,
    with_bias=True,
    with_last_bn=False,
    norm_cfg=dict(type='BN1d'),
)
byol = dict(
    _scope_='mmpretrain',
    type='BYOL',
    base_momentum=0.01,
    neck=dict(byol_mlp, with_avg_pool=True),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(byol_mlp, in_channels=256, with_avg_pool=False),
        loss=dict(type='CosineSimilarityLoss'),
    ),
)
byol_optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='mmpretrain.LARS',
        lr=4.8 * 32 / 4096,
        momentum=0.9,
        weight_decay=1e-6,
    ),
    paramwise_cfg=dict(
        custom_keys={
            'bn': dict(decay_mult=0, lars_exclude=True),
            'bias': dict(decay_mult=0, lars_exclude=True),
            'downsample.1': dict(decay_mult=0, lars_exclude=True),
        }
    ),
)
byol_budget = dict(
    type='mmfgl.BudgetHook', warmup=0.05, min_lr_ratio=0.0, views=2
)
# LightlyTrain's distillation v3. Kept, as it documents and prints them: AdamW,
# weight decay, temperature, weights of the losses. It scales its learning rate
# of 5e-4 for a batch of 1536 with the root of the batch, to 7e-5 here, for
# hundreds of epochs; a run of some hundred iterations takes 5e-4 itself, the
# rate of ReToD's arms. The queue holds half an epoch as for MoCo, as it does
# there for this many images (transfer.py sets it).
distill = dict(
    _scope_='mmpretrain',
    type='mmfgl.BackboneDistill',
    queue_len=224,
    temperature=0.07,
    local_weight=1.0,
)
distill_optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=1e-6),
)
distill_budget = dict(
    type='mmfgl.BudgetHook', warmup=0.05, min_lr_ratio=0.0, views=1
)
