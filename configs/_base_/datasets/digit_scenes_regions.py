# Unlabelled digit scenes for pretraining, with the region file of
# propose_regions.py: 64 clusters of what the boxes show.
_base_ = './region_views.py'

data_root = 'data/digit_scenes/'
num_clusters = 64
cluster_by = 'backbone'
proposals = data_root + 'annotations/unlabelled_regions.json'
load_image = dict(type='mmfgl.LoadCachedImage')
# a mirrored digit is no digit
size = dict(view_size=224, flip_prob=0.0)
objects = dict(type='mmfgl.FileRegions', ann_file=proposals, max_regions=10)
one_view = dict(
    _base_.one_view, **size, object_proposer=objects, max_objects=10
)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path='unlabelled/'),
        pipeline=[load_image, one_view, _base_.pack_views],
    )
)
region_probe = dict(
    dataloader=dict(
        dataset=dict(
            data_root=data_root,
            pipeline=[
                load_image,
                dict(_base_.probe_views, **size),
                _base_.pack_views,
            ],
        )
    )
)
