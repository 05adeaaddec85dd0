"""Data sets, region proposers and transforms."""

from .region_data_sample import RegionDataSample  # noqa: F401
from .region_proposers import *  # noqa: F401,F403
from .samplers import (  # noqa: F401
    CompactDefaultSampler,
    CompactInfiniteSampler,
)
from .transforms import *  # noqa: F401,F403
from .unlabelled_images import UnlabelledImages  # noqa: F401
