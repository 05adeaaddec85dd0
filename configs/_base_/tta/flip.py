# RoI test-time augmentation: the image and its mirror image.
#
#     python tools/test.py CONFIG CHECKPOINT --tta
#
# Add this file to `_base_` of a config. Images are resized as for COCO; a
# config of another size adds two lines:
#
#     tta_pipeline = _base_.tta_pipeline
#     tta_pipeline[1].transforms[0][0].scale = (320, 320)
#
# or, on the command line (the quotes matter):
#
#     --cfg-options 'tta_pipeline.1.transforms.0.0.scale=(320,320)'
#
# Not for objects whose mirror image is another class (digits, letters).
tta_model = dict(type='mmfgl.RoITTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(1333, 800), keep_ratio=True)],
            [
                dict(type='RandomFlip', prob=0.0),
                dict(type='RandomFlip', prob=1.0),
            ],
            # after the flip: ground truth stays in original pixels
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs')],
        ],
    ),
]
