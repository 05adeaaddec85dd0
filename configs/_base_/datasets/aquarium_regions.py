# Train photographs of the aquarium set for pretraining; no label is read.
# The root is $MMFGL_DATA_ROOT/aquarium, or data/aquarium. Boxes of selective
# search (opencv-contrib-python) are found while it trains.
_base_ = './region_views.py'

data_root = '{{$MMFGL_DATA_ROOT:data}}/aquarium/'
search = dict(type='mmfgl.SelectiveSearchRegions', mode='single')
# one view for objectness alone, two for the tasks of the regions too
one_view = dict(
    _base_.region_views,
    num_views=1,
    num_regions=0,
    view_size=192,
    object_proposer=search,
    max_objects=30,
)
two_views = dict(
    _base_.region_views,
    num_views=2,
    num_regions=16,
    view_size=192,
    proposer=search,
    object_proposer=search,
    max_objects=30,
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
        pipeline=[_base_.load_image, two_views, _base_.pack_views],
    ),
)
# Of held-out images; the regions are random boxes.
region_probe = dict(
    type='mmfgl.RegionProbeHook',
    interval=100,
    max_images=32,
    dataloader=dict(
        batch_size=8,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='mmfgl.UnlabelledImages',
            data_root=data_root,
            data_prefix=dict(img_path='val/'),
            pipeline=[
                _base_.load_image,
                dict(
                    _base_.region_views,
                    num_views=2,
                    num_regions=16,
                    view_size=192,
                    proposer=dict(type='mmfgl.RandomRegions', num_regions=64),
                ),
                _base_.pack_views,
            ],
        ),
    ),
)
