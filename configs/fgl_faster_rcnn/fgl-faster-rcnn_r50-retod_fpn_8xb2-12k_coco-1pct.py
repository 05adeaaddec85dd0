# FGL Faster R-CNN, R50-FPN from 100 epochs of ReToD, 1 % of the labels of
# COCO train2017.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r50-retod_fpn_8xb2-12k_coco-1pct.py 8
# Splits: tools/dataset_converters/split_coco.py, folds 1 to 5. For another
# one: MMFGL_FOLD=2 before the command, and a --work-dir of its own.
# Cost and AP on val2017: not yet measured.
_base_ = './fgl-faster-rcnn_r50-retod_fpn_8xb2-12k_coco.py'

percent, fold = 1, '{{$MMFGL_FOLD:1}}'
train_dataloader = dict(
    dataset=dict(
        ann_file=f'annotations/instances_train2017.{percent}@{fold}.json'
    )
)
