# mmdet's Faster R-CNN R50-FPN with another RoI head.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    './fgl_roi_head.py',
]

model = dict(
    type='mmfgl.FGLFasterRCNN',
    data_preprocessor=dict(non_blocking=True),
    roi_head=dict(_delete_=True, **_base_.fgl_roi_head),
)
