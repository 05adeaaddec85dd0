# The source recipe: the training settings of the method that mmfgl's FGL head
# follows. Adam at 1e-3 and cosine annealing (the classifier alone at 1e-4
# afterwards), MSE box loss, RoIPool, no box voting. The number of classes
# belongs to the config.
_base_ = './adamw_400.py'

optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3)
)
cosine = dict(
    type='CosineAnnealingLR',
    by_epoch=False,
    end=_base_.max_iters,
    T_max=_base_.max_iters,
)
param_scheduler = [cosine]
source_roi_head = dict(
    bbox_roi_extractor=dict(
        roi_layer=dict(_delete_=True, type='RoIPool', output_size=7)
    ),
    bbox_head=dict(
        loss_bbox=dict(_delete_=True, type='MSELoss'),
        voting_iou=None,
    ),
)
