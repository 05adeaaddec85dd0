# RoI test-time augmentation within one view: RoIs that may be objects are read
# from the two pyramid levels nearest to their size. One backbone pass, as in
# plain testing. For detectors with an FGLRoIHead.
#
#     python tools/test.py CONFIG CHECKPOINT --tta --views pyramid
#
# That is at the test scale of whatever config. To keep it, add this file to
# `_base_`; a config that inherits scales_flip.py sets this `tta_pipeline`
# itself, see there, also for other image sizes and for when not to flip.
_base_ = './scales_flip.py'

tta_model = dict(mode='pyramid', rescore_thr=0.2)
tta_pipeline = [
    _base_.tta_load,
    dict(
        type='TestTimeAug',
        transforms=[
            _base_.tta_one_scale,
            _base_.tta_no_flip,
            *_base_.tta_ending,
        ],
    ),
]
