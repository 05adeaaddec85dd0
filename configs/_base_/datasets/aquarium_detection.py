# Aquarium photographs (7 classes, COCO format) at 320 px, for a CPU.
# The root is $MMFGL_DATA_ROOT/aquarium, or data/aquarium.
_base_ = '../tta/scales_flip.py'

data_root = '{{$MMFGL_DATA_ROOT:data}}/aquarium/'
metainfo = dict(
    classes=(
        'fish',
        'jellyfish',
        'penguin',
        'puffin',
        'shark',
        'starfish',
        'stingray',
    )
)
load_image = dict(type='LoadImageFromFile')
load_boxes = dict(type='LoadAnnotations', with_bbox=True)
resize = dict(type='Resize', scale=(320, 320), keep_ratio=True)
train_pipeline = [
    load_image,
    load_boxes,
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load_image,
    resize,
    load_boxes,
    dict(
        type='PackDetInputs',
        meta_keys=(
            'img_id',
            'img_path',
            'ori_shape',
            'img_shape',
            'scale_factor',
        ),
    ),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    # upright images apart from wide ones: less padding
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=16),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type='mmfgl.DefinedCocoMetric',
    ann_file=data_root + 'annotations/val.json',
    metric='bbox',
    format_only=False,
)
test_evaluator = val_evaluator
tta_scales = [
    dict(type='Resize', scale=(side, side), keep_ratio=True)
    for side in (256, 320, 400)
]
tta_pipeline = [
    _base_.tta_load,
    dict(
        type='TestTimeAug',
        transforms=[tta_scales, _base_.tta_flips, *_base_.tta_ending],
    ),
]
