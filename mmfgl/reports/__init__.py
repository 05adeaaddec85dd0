"""Reports of runs: tables, curves and pictures as HTML and Markdown."""

from mmfgl.utils.machine import machine_settings

from .build import report
from .document import Report
from .plots import plot_curves
from .runs import read_curve, read_metrics
from .strip import picture_strip
from .tables import markdown_table

__all__ = [
    'Report',
    'machine_settings',
    'markdown_table',
    'picture_strip',
    'plot_curves',
    'read_curve',
    'read_metrics',
    'report',
]
