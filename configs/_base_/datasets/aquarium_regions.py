# Train photographs of the aquarium set for pretraining; no label is read.
# The root is $MMFGL_DATA_ROOT/aquarium, or data/aquarium. Boxes of selective
# search (opencv-contrib-python) are found while it trains.
_base_ = './region_views.py'

data_root = '{{$MMFGL_DATA_ROOT:data}}/aquarium/'
search = dict(type='mmfgl.SelectiveSearchRegions', mode='single')
size = dict(view_size=192)
one_view = dict(
    _base_.one_view, **size, object_proposer=search, max_objects=30
)
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[_base_.load_image, one_view, _base_.pack_views],
    )
)
region_probe = dict(
    dataloader=dict(
        dataset=dict(
            data_root=data_root,
            pipeline=[
                _base_.load_image,
                dict(_base_.probe_views, **size),
                _base_.pack_views,
            ],
        )
    )
)
