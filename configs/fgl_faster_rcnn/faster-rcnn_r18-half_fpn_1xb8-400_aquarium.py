# Plain Faster R-CNN with a half-width ResNet-18 from random weights, aquarium
# photographs, 400 iterations: the random start of the experiments.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       faster-rcnn_r18-half_fpn_1xb8-400_aquarium.py
# AP: not yet measured.
_base_ = [
    '../_base_/models/faster-rcnn_r18-half_fpn.py',
    '../_base_/datasets/aquarium_detection.py',
    '../_base_/schedules/adamw_400.py',
    '../_base_/det_iters.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes=7)))
custom_hooks = [*_base_.guards, _base_.channels_last]
