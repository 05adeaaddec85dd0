# Parts of the pretraining's pipelines. A pipeline is
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
