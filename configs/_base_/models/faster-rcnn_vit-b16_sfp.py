# Faster R-CNN, plain ViT-B/16 with a simple feature pyramid (ViTDet, arXiv
# 2203.16527). Every block reads the whole image; the position embedding,
# 14 x 14 as in MAE, is resized to the image at every step.
_base_ = 'mmdet::_base_/models/faster-rcnn_r50_fpn.py'

model = dict(
    data_preprocessor=dict(non_blocking=True),
    # with mmdet's RoI head this is FasterRCNN, but it knows the layer depths
    # that layer-wise learning rates ask for
    type='mmfgl.FGLFasterRCNN',
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='b',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        drop_path_rate=0.1,
    ),
    neck=dict(
        _delete_=True,
        type='mmfgl.SimpleFeaturePyramid',
        in_channels=768,
        out_channels=256,
        num_outs=5,
    ),
)
