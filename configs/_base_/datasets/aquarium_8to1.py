# 8 of 9 train photographs of the aquarium set, validated on the 9th:
#   python tools/dataset_converters/split_coco.py \
#       data/aquarium/annotations/train.json --train-val 8:1
_base_ = './aquarium_detection.py'

train_ann, val_ann = (
    f'annotations/train.8to1-{part}.json' for part in ('train', 'val')
)
train_dataloader = dict(dataset=dict(ann_file=train_ann))
val_dataloader = dict(
    dataset=dict(ann_file=val_ann, data_prefix=dict(img='train/'))
)
val_evaluator = dict(ann_file=_base_.data_root + val_ann)
