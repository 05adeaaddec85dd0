"""Data transforms."""

from .cached_loading import LoadCachedImage
from .fast_colour import FastGaussianBlur, TableColorJitter
from .image_slice import ImageSlice
from .loading import LoadUnlabelledImage
from .pack_region_views import PackRegionViews
from .region_views import TwoRegionViews, warp_view

__all__ = [
    'FastGaussianBlur',
    'ImageSlice',
    'LoadCachedImage',
    'LoadUnlabelledImage',
    'PackRegionViews',
    'TableColorJitter',
    'TwoRegionViews',
    'warp_view',
]
