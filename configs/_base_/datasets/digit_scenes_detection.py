# Digit scenes (10 classes) of tools/dataset_converters/digit_scenes.py.
_base_ = './aquarium_detection.py'

data_root = 'data/digit_scenes/'
metainfo = dict(classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'))
# a mirrored digit is no digit: no flip
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    _base_.resize,
    dict(type='PackDetInputs'),
]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, pipeline=train_pipeline
    )
)
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
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
