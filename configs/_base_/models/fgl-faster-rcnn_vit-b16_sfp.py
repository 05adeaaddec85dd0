# The plain detector of the same name with another RoI head.
_base_ = ['./faster-rcnn_vit-b16_sfp.py', './fgl_roi_head.py']

model = dict(roi_head=dict(_delete_=True, **_base_.fgl_roi_head))
