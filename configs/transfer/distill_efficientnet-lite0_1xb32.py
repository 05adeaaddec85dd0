# The backbone alone, distilled from EfficientNet-Lite2 (what LightlyTrain
# does), EfficientNet-Lite0 from ImageNet weights, as an arm of
#   python tools/benchmarks/transfer.py --arms distill --init imagenet ...
# which sets data and length of the run. Settings: _base_/models/peers.py.
_base_ = [
    '../_base_/models/peer_efficientnet-lite0.py',
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
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
custom_hooks = [
    *_base_.guards,
    _base_.distill_budget,
    _base_.chain,
    _base_.channels_last,
]
