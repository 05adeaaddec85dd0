# Two-view pipeline of the pretraining: neutral variable region_views_pipeline.
# To move the colour operations to the GPU, empty `photometric` and use
# `mmfgl.BatchColorAugment` in place of SelfSupDataPreprocessor. For pseudo
# ground truth give RegionViews an `object_proposer`, best
# dict(type='mmfgl.FileRegions', ann_file=...) of a file that
# tools/dataset_converters/propose_regions.py has made.
region_views_pipeline = [
    dict(type='mmfgl.LoadUnlabelledImage', lazy=True),
    dict(
        type='mmfgl.RegionViews',
        proposer=dict(type='mmfgl.GridRegions', cell_sizes=(112, 224, 448)),
        view_size=448,
        num_regions=32,
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
    ),
    dict(type='mmfgl.PackRegionViews'),
]
