# Unlabelled digit scenes for pretraining, with the region file of
# propose_regions.py: 64 clusters of what the boxes show.
_base_ = './region_views.py'

data_root = 'data/digit_scenes/'
num_clusters = 64
cluster_by = 'backbone'
proposals = data_root + 'annotations/unlabelled_regions.json'
load_image = dict(type='mmfgl.LoadCachedImage')
# a mirrored digit is no digit
views = dict(_base_.region_views, view_size=224, flip_prob=0.0)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfgl.UnlabelledImages',
        data_root=data_root,
        data_prefix=dict(img_path='unlabelled/'),
        pipeline=[
            load_image,
            dict(
                views,
                num_views=1,
                num_regions=0,
                object_proposer=dict(
                    type='mmfgl.FileRegions',
                    ann_file=proposals,
                    max_regions=10,
                ),
                max_objects=10,
            ),
            _base_.pack_views,
        ],
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
                load_image,
                dict(
                    views,
                    num_views=2,
                    num_regions=16,
                    proposer=dict(type='mmfgl.RandomRegions', num_regions=64),
                ),
                _base_.pack_views,
            ],
        ),
    ),
)
