# BYOL (arXiv 2006.07733) of MMPretrain, EfficientNet-Lite0, as an arm of
#   python tools/benchmarks/transfer.py --arms byol --init imagenet ...
# which sets data and length of the run. Settings: _base_/models/peers.py.
_base_ = [
    '../_base_/models/peer_efficientnet-lite0.py',
    '../_base_/models/peers.py',
    '../_base_/datasets/peer_views.py',
    '../_base_/transfer_runtime.py',
]

model = dict(_delete_=True, **_base_.byol, **_base_.student)
model['neck'].update(in_channels=_base_.channels)
train_dataloader = dict(
    dataset=dict(
        pipeline=[_base_.load_image, _base_.two_byol_views, _base_.pack]
    )
)
optim_wrapper = dict(_delete_=True, **_base_.byol_optim_wrapper)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.byol_budget,
    _base_.chain,
    _base_.channels_last,
]
