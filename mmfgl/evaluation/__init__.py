"""Evaluation: COCO AP and what lies behind it, for look-alike classes."""

from .confusion import confused_pairs, plot_confusion
from .defined_metric import DefinedCocoMetric
from .fgl_metric import FGLMetric
from .matching import ImageBoxes, MatchStatistics, greedy_match
from .score_threshold import (
    ScoreThreshold,
    best_score_threshold,
    without_duplicates,
)
from .test_results import TestResults, read_test_results
from .tide import ERROR_TYPES, TideReport, tide_report

__all__ = [
    'ERROR_TYPES',
    'DefinedCocoMetric',
    'FGLMetric',
    'ImageBoxes',
    'MatchStatistics',
    'ScoreThreshold',
    'TestResults',
    'TideReport',
    'best_score_threshold',
    'confused_pairs',
    'greedy_match',
    'plot_confusion',
    'read_test_results',
    'tide_report',
    'without_duplicates',
]
