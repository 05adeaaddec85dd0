# RoI test-time augmentation: the image and its mirror image.
#
#     python tools/test.py CONFIG CHECKPOINT --tta --views flip
#
# That is at the test scale of whatever config. To keep it, add this file to
# `_base_`; a config that inherits scales_flip.py sets this `tta_pipeline`
# itself, see there, also for other image sizes and for when not to flip.
_base_ = './scales_flip.py'

tta_pipeline = [
    _base_.tta_load,
    dict(
        type='TestTimeAug',
        transforms=[
            _base_.tta_one_scale,
            _base_.tta_flips,
            *_base_.tta_ending,
        ],
    ),
]
