"""Data transforms."""

from .fast_colour import FastGaussianBlur, TableColorJitter
from .image_slice import ImageSlice
from .loading import LoadCachedImage, LoadImage, LoadUnlabelledImage
from .pack_region_views import PackRegionViews
from .region_views import RegionViews

__all__ = [
    'FastGaussianBlur',
    'ImageSlice',
    'LoadCachedImage',
    'LoadImage',
    'LoadUnlabelledImage',
    'PackRegionViews',
    'RegionViews',
    'TableColorJitter',
]
