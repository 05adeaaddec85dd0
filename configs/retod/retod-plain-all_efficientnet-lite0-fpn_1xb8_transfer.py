# Ablation of the arm retod: every task of ReToD beside objectness.
#   python tools/benchmarks/transfer.py --arms retod,retod-all \
#       --init imagenet ...
_base_ = './retod-plain-distill_efficientnet-lite0-fpn_1xb8_transfer.py'

model = dict(
    head=dict(
        loss_mask=dict(
            _delete_=True, type='mmfgl.RegionDistillLoss', loss_weight=1.0
        ),
        loss_coord=dict(
            _delete_=True, type='mmdet.SmoothL1Loss', loss_weight=1.0
        ),
        loss_giou=dict(_delete_=True, type='mmdet.GIoULoss', loss_weight=1.0),
    )
)
