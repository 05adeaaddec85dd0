# RoI test-time augmentation: three scales, each with its mirror image.
#
#     python tools/test.py CONFIG CHECKPOINT --tta
#
# Add this file to `_base_` of a config; see scales.py for other image sizes
# and flip.py for when not to flip.
_base_ = './scales.py'

tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[1] = [
    dict(type='RandomFlip', prob=0.0),
    dict(type='RandomFlip', prob=1.0),
]
