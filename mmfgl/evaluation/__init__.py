"""Evaluation: COCO AP and what lies behind it, for look-alike classes."""

from .confusion import confused_pairs, plot_confusion
from .defined_metric import DefinedCocoMetric
from .fgl_metric import FGLMetric
from .matching import ImageBoxes, MatchStatistics, greedy_match
from .tide import ERROR_TYPES, TideReport, tide_report

__all__ = [
    'ERROR_TYPES',
    'DefinedCocoMetric',
    'FGLMetric',
    'ImageBoxes',
    'MatchStatistics',
    'TideReport',
    'confused_pairs',
    'greedy_match',
    'plot_confusion',
    'tide_report',
]
