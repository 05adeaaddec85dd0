# Plain Faster R-CNN with a half-width ResNet-18 from random weights, the
# baseline beside the FGL config of the same name.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       faster-rcnn_r18-half_fpn_1xb8-400_aquarium.py
# AP: not yet measured.
_base_ = [
    './fgl-faster-rcnn_r18-half_fpn_1xb8-400_aquarium.py',
    '../_base_/models/plain_roi_head_small.py',
]

model = dict(
    type='FasterRCNN', roi_head=dict(_delete_=True, **_base_.plain_roi_head)
)
model['roi_head']['bbox_head']['num_classes'] = 7
