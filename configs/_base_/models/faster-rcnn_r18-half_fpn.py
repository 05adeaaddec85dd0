# Faster R-CNN, half-width ResNet-18 with the small family's FPN, for
# experiments from random weights.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './small_detector.py',
]

model = dict(
    **_base_.small_detector,
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        out_indices=(1, 2, 3),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    ),
)
model['neck'].update(in_channels=[64, 128, 256])
