# MoCo v2 (arXiv 2003.04297) of MMPretrain, EfficientNet-Lite0, as an arm of
#   python tools/benchmarks/transfer.py --arms mocov2 --init imagenet ...
# which sets data and length of the run. Settings: _base_/models/peers.py.
_base_ = [
    '../_base_/models/peer_efficientnet-lite0.py',
    '../_base_/models/peers.py',
    '../_base_/datasets/peer_views.py',
    '../_base_/transfer_runtime.py',
]

model = dict(_delete_=True, **_base_.mocov2, **_base_.student)
model['neck'].update(in_channels=_base_.channels)
optim_wrapper = dict(_delete_=True, **_base_.mocov2_optim_wrapper)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.mocov2_budget,
    _base_.chain,
    _base_.channels_last,
]
