# The source recipe, step b: detector training from the ReToD checkpoint (step
# a), on 8 of 9 train photographs of the aquarium set, validated on the 9th.
#   python tools/dataset_converters/split_coco.py \
#       data/aquarium/annotations/train.json --train-val 8:1
#   python tools/train.py configs/fgl_faster_rcnn/\
#   fgl-faster-rcnn_efficientnet-lite0-retod_fpn_source-b_1xb8-400_aquarium.py
# AP: not yet measured with the present tasks of step a.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/datasets/aquarium_8to1.py',
    '../_base_/schedules/source.py',
    '../_base_/det_iters.py',
]

source_roi_head = _base_.source_roi_head
source_roi_head.bbox_head.num_classes = 7
model = dict(roi_head=source_roi_head)
load_from = (
    'work_dirs/retod_efficientnet-lite0-fpn_1xb8-400_aquarium/iter_400.pth'
)
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.pretrained_modules),
    _base_.channels_last,
]
