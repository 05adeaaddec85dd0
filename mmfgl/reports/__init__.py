"""Reports of runs: tables, curves and pictures as HTML and Markdown."""

from .build import report
from .document import Report
from .plots import plot_curves
from .runs import read_curve
from .tables import markdown_table

__all__ = [
    'Report',
    'markdown_table',
    'plot_curves',
    'read_curve',
    'report',
]
