# Head of ReToD for tokens of 512 and 4096 prototypes (COCO size).
retod_head = dict(
    type='mmfgl.ReToDHead',
    projector=dict(
        type='mmfgl.RegionProjector',
        in_channels=512,
        hidden_channels=1024,
        out_channels=256,
        num_prototypes=4096,
    ),
    targets=dict(
        type='mmfgl.RegionTargets', mode='sinkhorn', temperature=0.03
    ),
    loss_distill=dict(type='mmfgl.RegionDistillLoss', loss_weight=1.0),
    loss_mask=dict(type='mmfgl.RegionDistillLoss', loss_weight=1.0),
    loss_coord=dict(type='mmdet.SmoothL1Loss', loss_weight=1.0),
    loss_giou=dict(type='mmdet.GIoULoss', loss_weight=1.0),
    bbox_coder=dict(
        type='mmdet.DeltaXYWHBBoxCoder',
        target_means=[0.0, 0.0, 0.0, 0.0],
        target_stds=[0.1, 0.1, 0.2, 0.2],
    ),
    mask_ratio=(0.1, 0.5),
)
