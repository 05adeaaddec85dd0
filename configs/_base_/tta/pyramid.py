# RoI test-time augmentation within one view: RoIs that may be objects are read
# from the two pyramid levels nearest to their size. One backbone pass, as in
# plain testing. For detectors with an FGLRoIHead.
#
#     python tools/test.py CONFIG CHECKPOINT --tta
#
# Add this file to `_base_` of a config; see scales_flip.py for other image
# sizes.
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
