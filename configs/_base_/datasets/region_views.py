# Parts of the pretraining's data. A pipeline is
#   [_base_.load_image, dict(_base_.region_views, ...), _base_.pack_views]
# Pseudo ground truth of the objectness task comes from `object_proposer`,
# regions of the other tasks from `proposer`.
load_image = dict(type='mmfgl.LoadUnlabelledImage', lazy=True)
region_views = dict(
    type='mmfgl.RegionViews',
    view_size=448,
    photometric=[
        dict(
            type='mmfgl.TableColorJitter',
            brightness=0.4,
            contrast=0.4,
            saturation=0.2,
            hue=0.1,
            prob=0.8,
            gray_prob=0.2,
        ),
        dict(type='mmfgl.FastGaussianBlur', sigma=(0.1, 2.0), prob=0.2),
    ],
)
pack_views = dict(type='mmfgl.PackRegionViews')
# of objectness alone, which needs no regions
one_view = dict(region_views, num_views=1, num_regions=0)
# of random boxes in held-out images
probe_views = dict(
    region_views,
    num_views=2,
    num_regions=16,
    proposer=dict(type='mmfgl.RandomRegions', num_regions=64),
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='mmfgl.CompactInfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfgl.UnlabelledImages', data_prefix=dict(img_path='train/')
    ),
)
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
            data_prefix=dict(img_path='val/'),
            pipeline=[load_image, probe_views, pack_views],
        ),
    ),
)
