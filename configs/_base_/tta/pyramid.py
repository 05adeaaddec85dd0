# RoI test-time augmentation within one view: RoIs that may be objects are read
# from the two pyramid levels nearest to their size. One backbone pass, as in
# plain testing.
#
#     python tools/test.py CONFIG CHECKPOINT --tta
#
# Add this file to `_base_` of a config; see flip.py for other image sizes.
_base_ = './flip.py'

tta_model = dict(mode='pyramid', rescore_thr=0.2)
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[1] = [dict(type='RandomFlip', prob=0.0)]
