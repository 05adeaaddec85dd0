# Data of the arms of tools/benchmarks/transfer.py that train on regions. The
# tool sets data, view size and the region file, {proposals}, which it has
# computed first: boxes of selective search in `num_clusters` clusters of
# backbone features, colours or the embeddings of `region_teacher`
# (`cluster_by`).
_base_ = './region_views.py'

data_root = 'data/aquarium/'
load_image = dict(type='mmfgl.LoadCachedImage')
file_regions = dict(type='mmfgl.FileRegions', ann_file='{proposals}')
objects = dict(
    object_proposer=dict(
        type='mmfgl.FileRegions', ann_file='{proposals}', max_regions=10
    ),
    max_objects=10,
)
# one view for objectness alone, two for the tasks of the regions too
one_view = dict(_base_.one_view, **objects)
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
    **objects,
)
two_view_pipeline = [load_image, two_views, _base_.pack_views]
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        data_root=data_root,
        pipeline=[load_image, one_view, _base_.pack_views],
    ),
)
# before and after the training
region_probe = dict(
    interval=1000,
    max_images=16,
    dataloader=dict(dataset=dict(data_root=data_root)),
)
