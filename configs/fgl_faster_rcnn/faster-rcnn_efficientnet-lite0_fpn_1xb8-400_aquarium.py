# Plain Faster R-CNN of mmdet, the baseline beside the FGL config it inherits:
# same backbone, neck, RPN, data and schedule, another RoI head.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py
# Expected: see README.md beside this file.
_base_ = [
    './fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py',
    '../_base_/models/plain_roi_head_small.py',
]

model = dict(
    type='FasterRCNN', roi_head=dict(_delete_=True, **_base_.plain_roi_head)
)
model['roi_head']['bbox_head']['num_classes'] = 7
