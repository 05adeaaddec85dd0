# RoI test-time augmentation: the image at 0.8, 1 and 1.25 times its size.
#
#     python tools/test.py CONFIG CHECKPOINT --tta
#
# Add this file to `_base_` of a config; see scales_flip.py for other image
# sizes.
_base_ = './scales_flip.py'

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
