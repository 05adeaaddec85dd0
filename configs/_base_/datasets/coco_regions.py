# COCO train2017 + unlabeled2017 for pretraining; no label is read. The list
# of images, and boxes of selective search with their clusters, are made once:
#   (cd data/coco; find train2017 unlabeled2017 -name '*.jpg' | sort \
#       > annotations/unlabelled_images.txt)
#   python tools/dataset_converters/propose_regions.py data/coco \
#       --ann-file data/coco/annotations/unlabelled_images.txt \
#       --out data/coco/annotations/unlabelled_regions.json \
#       --clusters 64 --workers 16 --cfg-options mode=single max_regions=30
_base_ = './region_views.py'

data_root = 'data/coco/'
num_clusters = 64
cluster_by = 'colour'
proposals = data_root + 'annotations/unlabelled_regions.json'
file_regions = dict(type='mmfgl.FileRegions', ann_file=proposals)
# one view for objectness alone, two for the tasks of the regions too
one_view = dict(
    _base_.region_views,
    num_views=1,
    num_regions=0,
    object_proposer=file_regions,
    max_objects=20,
)
two_views = dict(
    _base_.region_views,
    num_views=2,
    num_regions=32,
    proposer=file_regions,
    object_proposer=file_regions,
    max_objects=20,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='mmfgl.UnlabelledImages',
        data_root=data_root,
        ann_file='annotations/unlabelled_images.txt',
        pipeline=[_base_.load_image, two_views, _base_.pack_views],
    ),
)
# Of held-out images; the regions are cells of a grid.
region_probe = dict(
    type='mmfgl.RegionProbeHook',
    interval=5000,
    max_images=64,
    dataloader=dict(
        batch_size=16,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='mmfgl.UnlabelledImages',
            data_root=data_root,
            data_prefix=dict(img_path='val2017/'),
            pipeline=[
                _base_.load_image,
                dict(
                    _base_.region_views,
                    num_views=2,
                    num_regions=16,
                    proposer=dict(
                        type='mmfgl.GridRegions', cell_sizes=(112, 224, 448)
                    ),
                ),
                _base_.pack_views,
            ],
        ),
    ),
)
