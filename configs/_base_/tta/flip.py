# RoI test-time augmentation: the image and its mirror image.
#
#     python tools/test.py CONFIG CHECKPOINT --tta
#
# Add this file to `_base_` of a config; see scales_flip.py for other image
# sizes and for when not to flip.
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
