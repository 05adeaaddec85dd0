# The plain detector of the same name with another RoI head.
_base_ = ['./faster-rcnn_r18-half_fpn.py', './fgl_roi_head_small.py']

model = dict(
    type='mmfgl.FGLFasterRCNN',
    roi_head=dict(_delete_=True, **_base_.fgl_roi_head),
)
