# RoI test-time augmentation for small objects: the image, and four overlapping
# parts of it at 1.67 times its size. Parts cut large objects.
#
#     python tools/test.py CONFIG CHECKPOINT --tta --views slices
#
# That is at the test scale of whatever config. To keep it, add this file to
# `_base_`; a config that inherits scales_flip.py sets this `tta_pipeline`
# itself, see there, also for other image sizes and for when not to flip.
# Other parts need their window alone, in fractions of the image.
_base_ = './scales_flip.py'

tta_slices = [
    dict(type='mmfgl.ImageSlice', window=(0.0, 0.0, 1.0, 1.0)),
    dict(type='mmfgl.ImageSlice', window=(0.0, 0.0, 0.6, 0.6)),
    dict(type='mmfgl.ImageSlice', window=(0.4, 0.0, 1.0, 0.6)),
    dict(type='mmfgl.ImageSlice', window=(0.0, 0.4, 0.6, 1.0)),
    dict(type='mmfgl.ImageSlice', window=(0.4, 0.4, 1.0, 1.0)),
]
tta_slices_ending = [
    [dict(type='LoadAnnotations', with_bbox=True)],
    [
        dict(
            type='PackDetInputs',
            meta_keys=(
                'img_id',
                'img_path',
                'ori_shape',
                'img_shape',
                'scale_factor',
                'flip',
                'flip_direction',
                'slice_window',
            ),
        )
    ],
]
tta_pipeline = [
    _base_.tta_load,
    dict(
        type='TestTimeAug',
        transforms=[
            tta_slices,
            _base_.tta_one_scale,
            _base_.tta_no_flip,
            *tta_slices_ending,
        ],
    ),
]
