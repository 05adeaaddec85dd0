# Faster R-CNN, ConvNeXt-T (arXiv 2201.03545) of timm. timm downloads its
# ImageNet weights when the model is built; pretrained=False takes none.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    data_preprocessor=dict(non_blocking=True),
    backbone=dict(
        _delete_=True,
        type='mmpretrain.TIMMBackbone',
        model_name='convnext_tiny',
        features_only=True,
        pretrained=True,
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.4,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
