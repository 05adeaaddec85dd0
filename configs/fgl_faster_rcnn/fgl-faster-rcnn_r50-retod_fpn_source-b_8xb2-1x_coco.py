# Source recipe, step b: detector training from the ReToD checkpoint (step a),
# on 8 of 9 images of COCO train2017, validated on the 9th, tested on val2017.
#   python tools/dataset_converters/split_coco.py \
#       data/coco/annotations/instances_train2017.json --train-val 8:1
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r50-retod_fpn_source-b_8xb2-1x_coco.py 8
# AP: not yet measured.
_base_ = [
    './fgl-faster-rcnn_r50-retod_fpn_8xb2-1x_coco.py',
    '../_base_/schedules/source.py',
]

model = dict(roi_head=_base_.source_roi_head)
ann_file = 'annotations/instances_train2017.8to1-'
train_dataloader = dict(dataset=dict(ann_file=ann_file + 'train.json'))
val_dataloader = dict(
    dataset=dict(
        ann_file=ann_file + 'val.json', data_prefix=dict(img='train2017/')
    )
)
val_evaluator = dict(ann_file=_base_.data_root + ann_file + 'val.json')
optim_wrapper = _base_.source_optim_wrapper
max_epochs = 12
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    )
]
