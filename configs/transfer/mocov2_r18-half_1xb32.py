# MoCo v2 (arXiv 2003.04297) of MMPretrain, half-width ResNet-18, as an arm of
#   python tools/benchmarks/transfer.py --arms mocov2 --init random ...
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
    **_base_.mocov2,
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
optim_wrapper = dict(_delete_=True, **_base_.mocov2_optim_wrapper)
custom_hooks = [*_base_.guards, _base_.mocov2_budget, _base_.channels_last]
