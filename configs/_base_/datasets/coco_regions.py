# COCO train2017 + unlabeled2017 for pretraining; no label is read. The list
# of images, and boxes of selective search with their clusters, are made once:
#   (cd data/coco; find train2017 unlabeled2017 -name '*.jpg' | sort \
#       > annotations/unlabelled_images.txt)
#   python tools/dataset_converters/propose_regions.py data/coco \
#       --ann-file data/coco/annotations/unlabelled_images.txt \
#       --out data/coco/annotations/unlabelled_regions \
#       --clusters 64 --workers 16 --cfg-options mode=single max_regions=30
_base_ = './region_views.py'

data_root = 'data/coco/'
num_clusters = 64
cluster_by = 'colour'
proposals = data_root + 'annotations/unlabelled_regions'  # a folder
file_regions = dict(type='mmfgl.FileRegions', ann_file=proposals)
objects = dict(object_proposer=file_regions, max_objects=20)
# one view for objectness alone, two for the tasks of the regions too
one_view = dict(_base_.one_view, **objects)
two_views = dict(
    _base_.region_views,
    num_views=2,
    num_regions=32,
    proposer=file_regions,
    **objects,
)
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    pin_memory=True,
    drop_last=True,
    sampler=dict(
        _delete_=True, type='mmfgl.CompactDefaultSampler', shuffle=True
    ),
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path=''),
        ann_file='annotations/unlabelled_images.txt',
        pipeline=[_base_.load_image, one_view, _base_.pack_views],
    ),
)
region_probe = dict(
    interval=5000,
    max_images=64,
    dataloader=dict(
        dataset=dict(
            data_root=data_root, data_prefix=dict(img_path='val2017/')
        )
    ),
)
