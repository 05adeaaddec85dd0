# Two-view pipeline of the pretraining: neutral variable region_views_pipeline.
region_views_pipeline = [
    dict(type='mmfgl.LoadUnlabelledImage'),
    dict(
        type='mmfgl.TwoRegionViews',
        proposer=dict(type='mmfgl.GridRegions', cell_sizes=(112, 224, 448)),
        view_size=448,
        num_regions=32,
        photometric=[
            dict(
                type='RandomApply',
                transforms=[
                    dict(
                        type='ColorJitter',
                        brightness=0.4,
                        contrast=0.4,
                        saturation=0.2,
                        hue=0.1,
                    )
                ],
                prob=0.8,
            ),
            dict(
                type='RandomGrayscale',
                prob=0.2,
                keep_channels=True,
                channel_weights=(0.114, 0.587, 0.2989),
            ),
            dict(
                type='GaussianBlur',
                magnitude_range=(0.1, 2.0),
                magnitude_std='inf',
                prob=0.2,
            ),
        ],
    ),
    dict(type='mmfgl.PackRegionViews'),
]
