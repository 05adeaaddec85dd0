# Ablation of the arm retod: distillation between two views beside objectness.
#   python tools/benchmarks/transfer.py --arms retod,retod-distill \
#       --init imagenet ...
_base_ = './retod-plain_efficientnet-lite0-fpn_1xb8_transfer.py'

model = dict(
    head=dict(
        loss_distill=dict(
            _delete_=True, type='mmfgl.RegionDistillLoss', loss_weight=1.0
        )
    )
)
region_views_pipeline = _base_.region_views_pipeline
region_views_pipeline[1].update(num_regions=16)
region_views_pipeline[1]['proposer'] = dict(
    type='mmfgl.MixedRegions',
    proposers=[
        dict(type='mmfgl.FileRegions', ann_file='{proposals}'),
        dict(type='mmfgl.RandomRegions', num_regions=64),
    ],
)
train_dataloader = dict(dataset=dict(pipeline=region_views_pipeline))
custom_hooks = _base_.custom_hooks
custom_hooks[0]['views'] = 2  # the teacher reads the second
