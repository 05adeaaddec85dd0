# Source recipe, step b: detector training from the ReToD checkpoint (step a),
# on 8 of 9 train photographs of the aquarium set, validated on the 9th.
#   python tools/dataset_converters/split_coco.py \
#       data/aquarium/annotations/train.json --train-val 8:1
#   python tools/train.py configs/fgl_faster_rcnn/\
#   fgl-faster-rcnn_efficientnet-lite0-retod_fpn_source-b_1xb8-400_aquarium.py
# AP: see README.md beside this file.
_base_ = [
    './fgl-faster-rcnn_efficientnet-lite0-retod_fpn_1xb8-400_aquarium.py',
    '../_base_/schedules/source.py',
]

model = dict(roi_head=_base_.source_roi_head)
ann_file = 'annotations/train.8to1-'
train_dataloader = dict(dataset=dict(ann_file=ann_file + 'train.json'))
val_dataloader = dict(
    dataset=dict(
        ann_file=ann_file + 'val.json', data_prefix=dict(img='train/')
    )
)
val_evaluator = dict(ann_file=_base_.data_root + ann_file + 'val.json')
custom_hooks = _base_.custom_hooks[:2]  # every layer is trained
optim_wrapper = _base_.source_optim_wrapper
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        end=_base_.max_iters,
        T_max=_base_.max_iters,
    )
]
