# RoI test-time augmentation: the image at 0.8, 1 and 1.25 times its size, each
# with its mirror image.
#
#     python tools/test.py CONFIG CHECKPOINT --tta --views scales_flip
#
# That is at the test scale of whatever config. In `_base_` of a config, scales
# are those of COCO; a config of another size names its own, its test scale in
# the middle (the reference):
#
#     tta_scales = [
#         dict(type='Resize', scale=(side, side), keep_ratio=True)
#         for side in (256, 320, 400)
#     ]
#     tta_pipeline = [
#         _base_.tta_load,
#         dict(
#             type='TestTimeAug',
#             transforms=[tta_scales, _base_.tta_flips, *_base_.tta_ending],
#         ),
#     ]
#
# Objects whose mirror image is another class (digits, letters) take
# `_base_.tta_no_flip` in place of `_base_.tta_flips`.
tta_model = dict(type='mmfgl.RoITTAModel')

tta_load = dict(type='LoadImageFromFile')
tta_scales = [
    dict(type='Resize', scale=(1067, 640), keep_ratio=True),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='Resize', scale=(1667, 1000), keep_ratio=True),
]
tta_one_scale = [dict(type='Resize', scale=(1333, 800), keep_ratio=True)]
tta_flips = [
    dict(type='RandomFlip', prob=0.0),
    dict(type='RandomFlip', prob=1.0),
]
# no flip, but the model wants the views to say so
tta_no_flip = [dict(type='RandomFlip', prob=0.0)]
tta_ending = [
    # after all that moves boxes: ground truth stays in original pixels
    [dict(type='LoadAnnotations', with_bbox=True)],
    [dict(type='PackDetInputs')],
]
tta_pipeline = [
    tta_load,
    dict(type='TestTimeAug', transforms=[tta_scales, tta_flips, *tta_ending]),
]
