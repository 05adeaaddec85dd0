# BYOL (arXiv 2006.07733) of MMPretrain as an arm of
#   python tools/benchmarks/transfer.py --arms byol --init imagenet ...
# Published: byol_resnet50_16xb256-coslr-200e_in1k.py. Kept: LARS, learning
# rate 4.8 a batch of 4096 (linear in the batch), warm-up of 5 % of the run,
# momentum 0.01 on a cosine to 0, augmentations.
_base_ = './mocov2_efficientnet-lite0.py'

model = dict(
    _delete_=True,
    type='BYOL',
    base_momentum=0.01,
    data_preprocessor=_base_.model.data_preprocessor,
    backbone=_base_.model.backbone,
    neck=dict(
        type='NonLinearNeck',
        in_channels=320,
        hid_channels=4096,
        out_channels=256,
        num_layers=2,
        with_bias=True,
        with_last_bn=False,
        with_avg_pool=True,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(
            type='NonLinearNeck',
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            num_layers=2,
            with_bias=True,
            with_last_bn=False,
            with_avg_pool=False,
            norm_cfg=dict(type='BN1d'),
        ),
        loss=dict(type='CosineSimilarityLoss'),
    ),
)
train_dataloader = _base_.train_dataloader
train_dataloader['dataset']['pipeline'][1] = dict(
    type='MultiView', num_views=[1, 1], transforms=_base_.byol_views
)
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='LARS',
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
custom_hooks = _base_.custom_hooks
custom_hooks[0]['warmup'] = 0.05
