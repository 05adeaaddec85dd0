# Model base of the ViT-B/16 family: plain vision Transformer and simple
# feature pyramid (ViTDet, arXiv 2203.16527). Every block reads
# the whole image; the position embedding, 14 x 14 as in MAE, is resized to the
# image at every step. The neutral variables are those of the R50-FPN family.
_base_ = './fgl_r50_fpn.py'

fgl_backbone = dict(
    _delete_=True,
    type='mmpretrain.VisionTransformer',
    arch='b',
    img_size=224,
    patch_size=16,
    out_type='featmap',
)
fgl_neck = dict(
    _delete_=True,
    type='mmfgl.SimpleFeaturePyramid',
    in_channels=768,
    out_channels=256,
    num_outs=5,
)
