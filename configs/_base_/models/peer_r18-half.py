# A part, for configs/transfer: the last map of the half-width ResNet-18, from
# random weights, for the methods of peers.py.
_base_ = './faster-rcnn_r18-half_fpn.py'

detector = _base_.model
student = dict(
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=detector.data_preprocessor.mean,
        std=detector.data_preprocessor.std,
        bgr_to_rgb=True,
    ),
    backbone=dict(detector.backbone, type='mmdet.ResNet', out_indices=(3,)),
)
channels = 256
