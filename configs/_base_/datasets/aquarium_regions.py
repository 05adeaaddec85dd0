# Train photographs of the aquarium set for pretraining; no label is read.
# The root is $MMFGL_DATA_ROOT/aquarium, or data/aquarium.
_base_ = './region_views.py'

data_root = '{{$MMFGL_DATA_ROOT:data}}/aquarium/'
region_views_pipeline = _base_.region_views_pipeline
region_views_pipeline[1].update(view_size=192, num_regions=16)
region_views_pipeline[1]['proposer'] = dict(
    type='mmfgl.RandomRegions', num_regions=64
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfgl.UnlabelledImages',
        data_root=data_root,
        data_prefix=dict(img_path='train/'),
        pipeline=region_views_pipeline,
    ),
)
