"""Data transforms."""

from .cached_loading import LoadCachedImage
from .loading import LoadUnlabelledImage
from .region_views import PackRegionViews, TwoRegionViews, warp_view

__all__ = [
    'LoadCachedImage',
    'LoadUnlabelledImage',
    'PackRegionViews',
    'TwoRegionViews',
    'warp_view',
]
