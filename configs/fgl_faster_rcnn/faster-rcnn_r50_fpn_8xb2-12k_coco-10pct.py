# Plain Faster R-CNN of mmdet, R50-FPN from ImageNet weights, 10 % of the
# labels of COCO train2017.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/faster-rcnn_r50_fpn_8xb2-12k_coco-10pct.py 8
# Splits: tools/dataset_converters/split_coco.py, 1, 2, 5 and 10 % in folds 1
# to 5. Another one, fold 3 of 1 %, with a --work-dir of its own:
#   --cfg-options train_dataloader.dataset.ann_file=\
#       annotations/instances_train2017.3@1.json
# Cost and AP on val2017: not yet measured.
_base_ = [
    './faster-rcnn_r50_fpn_8xb2-1x_coco.py',
    '../_base_/schedules/coco_lengths.py',
]

train_cfg = dict(_delete_=True, **_base_.train_cfg_12k)
train_dataloader = dict(
    sampler=_base_.sampler_12k,
    dataset=dict(ann_file='annotations/instances_train2017.1@10.json'),
)
param_scheduler = _base_.param_scheduler_12k
default_hooks = dict(checkpoint=_base_.checkpoint_12k)
log_processor = dict(by_epoch=False)
