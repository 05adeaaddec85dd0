# The source recipe, step c: fine-tuning of the classifier alone at 1e-4, all
# else frozen, from the checkpoint of step b. Step d is the test with --tta.
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_source-c_1xb8-100_aquarium.py
#   python tools/test.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_source-c_1xb8-100_aquarium.py \
#       work_dirs/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_source-c_1xb8-100_aquarium/\
#       iter_100.pth --tta
# AP: see README.md beside this file.
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
    'work_dirs/fgl-faster-rcnn_efficientnet-lite0-retod_fpn_source-b_1xb8-400'
    '_aquarium/iter_400.pth'
)
custom_hooks = [
    *_base_.guards,
    dict(
        type='mmfgl.CheckpointChainHook',
        modules=['backbone', 'neck', 'rpn_head', 'roi_head'],
    ),
    dict(type='mmfgl.FreezeHook', trainable=['roi_head.bbox_head.fc_cls']),
    _base_.channels_last,
]
max_iters = 100
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [dict(_base_.cosine, end=max_iters, T_max=max_iters)]
default_hooks = dict(checkpoint=dict(interval=25))
# step d is scales alone; boxes are voted neither there nor in a plain test
tta_model = dict(voting_iou=None)
tta_pipeline = [
    _base_.tta_load,
    dict(
        type='TestTimeAug',
        transforms=[
            _base_.tta_scales,
            _base_.tta_no_flip,
            *_base_.tta_ending,
        ],
    ),
]
