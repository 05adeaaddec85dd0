# Data of the arms of tools/benchmarks/transfer.py that train on regions. The
# tool sets data, view size and the region file, {proposals}, which it has
# computed first: boxes of selective search in `num_clusters` clusters of
# backbone features or colours (`cluster_by`).
_base_ = './region_views.py'

data_root = 'data/aquarium/'
num_clusters = 64
load_image = dict(type='mmfgl.LoadCachedImage')
file_regions = dict(type='mmfgl.FileRegions', ann_file='{proposals}')
objects = dict(
    type='mmfgl.FileRegions', ann_file='{proposals}', max_regions=10
)
# one view for objectness alone, two for the tasks of the regions too
one_view = dict(
    _base_.region_views,
    num_views=1,
    num_regions=0,
    object_proposer=objects,
    max_objects=10,
)
two_views = dict(
    _base_.region_views,
    num_views=2,
    num_regions=16,
    proposer=dict(
        type='mmfgl.MixedRegions',
        proposers=[
            file_regions,
            dict(type='mmfgl.RandomRegions', num_regions=64),
        ],
    ),
    object_proposer=objects,
    max_objects=10,
)
two_view_pipeline = [load_image, two_views, _base_.pack_views]
train_dataloader = dict(
    batch_size=16,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfgl.UnlabelledImages',
        data_root=data_root,
        data_prefix=dict(img_path='train/'),
        pipeline=[load_image, one_view, _base_.pack_views],
    ),
)
# Of held-out images, before and after the training; the regions are random.
region_probe = dict(
    type='mmfgl.RegionProbeHook',
    interval=1000,
    max_images=16,
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
                load_image,
                dict(
                    _base_.region_views,
                    num_views=2,
                    num_regions=16,
                    proposer=dict(type='mmfgl.RandomRegions', num_regions=64),
                ),
                _base_.pack_views,
            ],
        ),
    ),
)
