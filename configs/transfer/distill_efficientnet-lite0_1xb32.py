# The backbone alone, distilled from EfficientNet-Lite2 (what LightlyTrain
# does), EfficientNet-Lite0 from ImageNet weights, as an arm of
#   python tools/benchmarks/transfer.py --arms distill --init imagenet ...
# which sets data and length of the run. Settings: _base_/models/peers.py.
_base_ = [
    '../_base_/models/faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/lite2_teacher.py',
    '../_base_/models/peers.py',
    '../_base_/datasets/peer_views.py',
    '../_base_/transfer_runtime.py',
]

detector = _base_.model
model = dict(
    _delete_=True,
    **_base_.distill,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=detector.data_preprocessor.mean,
        std=detector.data_preprocessor.std,
        bgr_to_rgb=True,
    ),
    # the last feature map
    backbone=dict(detector.backbone, out_indices=(4,)),
    in_channels=320,
    teacher=_base_.frozen_teacher,
)
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
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.channels_last,
]
