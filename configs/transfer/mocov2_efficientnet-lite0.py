# MoCo v2 (arXiv 2003.04297) of MMPretrain as an arm of
#   python tools/benchmarks/transfer.py --arms mocov2 --init imagenet ...
# which sets data, length of the run and length of the queue.
# Published: mocov2_resnet50_8xb32-coslr-200e_in1k.py. Kept: SGD, learning rate
# 0.03 a batch of 256 (linear in the batch), weight decay, temperature,
# augmentations. Scaled to a run of some hundred iterations: the key encoder
# follows at 0.01 a step as in the authors' CIFAR recipe (0.001 would leave it
# near its start); the queue holds keys of half an epoch, so that it rarely
# has another view of the same image as a negative.
_base_ = [
    '../_base_/models/fgl_efficientnet-lite0_fpn.py',
    '../_base_/datasets/peer_views.py',
    'mmpretrain::_base_/default_runtime.py',
]

model = dict(
    type='MoCo',
    queue_len=224,
    feat_dim=128,
    momentum=0.01,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        bgr_to_rgb=True,
        **_base_.fgl_normalise,
    ),
    backbone=_base_.fgl_backbone,
    neck=dict(
        type='MoCoV2Neck',
        in_channels=320,
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
# the peers read the last feature map
model['backbone']['out_indices'] = (4,)
train_dataloader = _base_.peer_dataloader
train_dataloader['dataset']['pipeline'] = [
    dict(type='mmfgl.LoadCachedImage'),
    dict(type='MultiView', num_views=2, transforms=[_base_.mocov2_view]),
    dict(type='PackInputs'),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000, val_interval=1001)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.03 * 32 / 256, weight_decay=1e-4, momentum=0.9
    ),
)
custom_hooks = [
    dict(type='mmfgl.BudgetHook', warmup=0.0, min_lr_ratio=0.0, views=2),
    dict(type='mmfgl.UnreadableImageHook'),
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.fgl_channels_last,
]
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(by_epoch=False, interval=1000)
)
log_processor = dict(type='LogProcessor', window_size=10, by_epoch=False)
randomness = dict(seed=0)
