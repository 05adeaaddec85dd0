"""Labelled data sets of other tools, read as COCO."""

from .base import Dataset, Split
from .reading import read_dataset
from .split import split_dataset

__all__ = [
    'Dataset',
    'Split',
    'read_dataset',
    'split_dataset',
]
