# A part, for configs/transfer: the last map of EfficientNet-Lite0, from
# ImageNet weights, for the methods of peers.py.
_base_ = './faster-rcnn_efficientnet-lite0_fpn.py'

detector = _base_.model
student = dict(
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=detector.data_preprocessor.mean,
        std=detector.data_preprocessor.std,
        bgr_to_rgb=True,
    ),
    backbone=dict(detector.backbone, out_indices=(4,)),
)
channels = 320
chain = dict(type='mmfgl.CheckpointChainHook', modules=['backbone'])
