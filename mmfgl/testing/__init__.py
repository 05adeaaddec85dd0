"""Tiny configs, batches and data sets for tests."""

from .batches import (
    detection_batch,
    random_boxes,
    region_batch,
    region_samples,
)
from .data import tiny_coco
from .models import (
    assert_trained,
    half_dtypes,
    randomise_weights,
    tiny_fgl_cfg,
)
from .retod import tiny_plain_detector_cfg, tiny_retod_cfg

__all__ = [
    'assert_trained',
    'detection_batch',
    'half_dtypes',
    'random_boxes',
    'randomise_weights',
    'region_batch',
    'region_samples',
    'tiny_coco',
    'tiny_fgl_cfg',
    'tiny_plain_detector_cfg',
    'tiny_retod_cfg',
]
