# mmdet's Mask R-CNN R50-FPN with another RoI head and its own mask branch.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    './fgl_roi_head.py',
]

model = dict(
    type='mmfgl.FGLFasterRCNN',
    data_preprocessor=dict(non_blocking=True),
    roi_head=dict(
        _delete_=True,
        **_base_.fgl_roi_head,
        mask_roi_extractor=_base_.model.roi_head.mask_roi_extractor,
        mask_head=_base_.model.roi_head.mask_head,
    ),
)
