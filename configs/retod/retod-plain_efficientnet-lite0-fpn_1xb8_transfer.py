# ReToD for mmdet's plain Faster R-CNN, as an arm of
#   python tools/benchmarks/transfer.py --arms retod --init imagenet ...
# Region tokens come from the shared layers of the detector's box head.
_base_ = [
    './retod_efficientnet-lite0-fpn_1xb8_transfer.py',
    '../_base_/models/plain_roi_head_small.py',
]

model = dict(
    roi_head=dict(
        _delete_=True,
        _scope_='mmdet',
        type='mmfgl.PlainRegionHead',
        bbox_roi_extractor=_base_.plain_roi_head.bbox_roi_extractor,
        bbox_head=_base_.plain_roi_head.bbox_head,
        transformer=_base_.fgl_region_encoder.transformer,
        attention=_base_.fgl_region_encoder.attention,
    )
)
# as many pseudo-classes
model['roi_head']['bbox_head'].update(num_classes=_base_.num_clusters)
