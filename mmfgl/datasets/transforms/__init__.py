"""Data transforms."""

from .loading import LoadUnlabelledImage
from .region_views import PackRegionViews, TwoRegionViews, warp_view

__all__ = [
    'LoadUnlabelledImage',
    'PackRegionViews',
    'TwoRegionViews',
    'warp_view',
]
