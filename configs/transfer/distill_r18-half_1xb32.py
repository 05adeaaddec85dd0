# The backbone alone, distilled from EfficientNet-Lite2 (what LightlyTrain
# does), half-width ResNet-18 from random weights, as an arm of
#   python tools/benchmarks/transfer.py --arms distill --init random ...
# which sets data and length of the run. Settings: _base_/models/peers.py.
_base_ = [
    '../_base_/models/peer_r18-half.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/models/peers.py',
    '../_base_/datasets/peer_views.py',
    '../_base_/transfer_runtime.py',
]

model = dict(_delete_=True, **_base_.distill, **_base_.student)
model.update(in_channels=_base_.channels, teacher=_base_.frozen_teacher)
train_dataloader = dict(
    dataset=dict(
        pipeline=[_base_.load_image, _base_.one_distill_view, _base_.pack]
    )
)
optim_wrapper = dict(_delete_=True, **_base_.distill_optim_wrapper)
custom_hooks = [
    *_base_.guards,
    _base_.distill_budget,
    _base_.channels_last,
]
