# RoI test-time augmentation: the image at 0.8, 1 and 1.25 times its size.
#
#     python tools/test.py CONFIG CHECKPOINT --tta
#
# Add this file to `_base_` of a config. Scales are those of COCO; a config of
# another size adds, with its own test scale in the middle (the reference):
#
#     tta_pipeline = _base_.tta_pipeline
#     tta_pipeline[1].transforms[0] = [
#         dict(type='Resize', scale=(side, side), keep_ratio=True)
#         for side in (256, 320, 400)
#     ]
tta_model = dict(type='mmfgl.RoITTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(1067, 640), keep_ratio=True),
                dict(type='Resize', scale=(1333, 800), keep_ratio=True),
                dict(type='Resize', scale=(1667, 1000), keep_ratio=True),
            ],
            # no flip, but the model wants the views to say so
            [dict(type='RandomFlip', prob=0.0)],
            # after the flip: ground truth stays in original pixels
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs')],
        ],
    ),
]
