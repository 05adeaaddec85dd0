"""Region proposers: boxes of unlabelled images."""

from .base import RegionProposer
from .file_regions import FileRegions
from .grid import GridRegions
from .mixed import MixedRegions
from .random_regions import RandomRegions
from .selective_search import SelectiveSearchRegions

__all__ = [
    'FileRegions',
    'GridRegions',
    'MixedRegions',
    'RandomRegions',
    'RegionProposer',
    'SelectiveSearchRegions',
]
