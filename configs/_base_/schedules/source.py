# The source recipe, to the letter: Adam at 1e-3 and cosine annealing (the
# classifier alone at 1e-4 afterwards), MSE box loss, RoIPool, no box voting.
# Neutral variables: the schedule that a config inherits defines the keys
# themselves.
source_optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-3)
)
source_roi_head = dict(
    bbox_roi_extractor=dict(
        roi_layer=dict(_delete_=True, type='RoIPool', output_size=7)
    ),
    bbox_head=dict(
        loss_bbox=dict(_delete_=True, type='mmdet.MSELoss'),
        voting_iou=None,
    ),
)
# What the fine-tuning starts from, and the one module that it trains.
source_all_modules = ['backbone', 'neck', 'rpn_head', 'roi_head']
source_freeze_hook = dict(
    type='mmfgl.FreezeHook', trainable=['roi_head.bbox_head.fc_cls']
)
