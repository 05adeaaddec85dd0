# MoCo v2 (arXiv 2003.04297) of MMPretrain, half-width ResNet-18, as an arm of
#   python tools/benchmarks/transfer.py --arms mocov2 --init random ...
# which sets data and length of the run. Settings: _base_/models/peers.py.
_base_ = [
    '../_base_/models/peer_r18-half.py',
    '../_base_/models/peers.py',
    '../_base_/datasets/peer_views.py',
    '../_base_/transfer_runtime.py',
]

model = dict(_delete_=True, **_base_.mocov2, **_base_.student)
model['neck'].update(in_channels=_base_.channels)
optim_wrapper = dict(_delete_=True, **_base_.mocov2_optim_wrapper)
custom_hooks = [
    *_base_.guards,
    _base_.mocov2_budget,
    _base_.channels_last,
]
