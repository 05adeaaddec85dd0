"""Region proposers: boxes of unlabelled images."""

from .base import RegionProposer
from .grid import GridRegions
from .random_regions import RandomRegions

__all__ = ['GridRegions', 'RandomRegions', 'RegionProposer']
