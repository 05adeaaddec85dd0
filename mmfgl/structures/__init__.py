"""Pure box geometry and data elements; imports nothing else of mmfgl."""

from .attention_mask import close_leaks, iou_attention_mask, log_geometry
from .box_voting import vote_neighbours
from .boxes import (
    border_overlap,
    box_area,
    normalise_boxes,
    pairwise_intersection,
    pairwise_iou,
)
from .region_data_sample import RegionDataSample
from .view_maps import (
    clip_boxes,
    crop_affine,
    invert_affine,
    jitter_boxes,
    map_boxes,
    visible_share,
)

__all__ = [
    'RegionDataSample',
    'border_overlap',
    'box_area',
    'clip_boxes',
    'close_leaks',
    'crop_affine',
    'invert_affine',
    'iou_attention_mask',
    'jitter_boxes',
    'log_geometry',
    'map_boxes',
    'normalise_boxes',
    'pairwise_intersection',
    'pairwise_iou',
    'visible_share',
    'vote_neighbours',
]
