# BYOL (arXiv 2006.07733) of MMPretrain, half-width ResNet-18, as an arm of
#   python tools/benchmarks/transfer.py --arms byol --init random ...
# which sets data and length of the run. Settings: _base_/models/peers.py.
_base_ = [
    '../_base_/models/faster-rcnn_r18-half_fpn.py',
    '../_base_/models/peers.py',
    '../_base_/datasets/peer_views.py',
    '../_base_/transfer_runtime.py',
]

detector = _base_.model
model = dict(
    _delete_=True,
    **_base_.byol,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=detector.data_preprocessor.mean,
        std=detector.data_preprocessor.std,
        bgr_to_rgb=True,
    ),
    # the last feature map
    backbone=dict(detector.backbone, type='mmdet.ResNet', out_indices=(3,)),
)
model['neck'].update(in_channels=256)
train_dataloader = dict(
    dataset=dict(
        pipeline=[_base_.load_image, _base_.two_byol_views, _base_.pack]
    )
)
optim_wrapper = dict(_delete_=True, **_base_.byol_optim_wrapper)
custom_hooks = [*_base_.guards, _base_.byol_budget, _base_.channels_last]
