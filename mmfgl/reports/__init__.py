"""Reports of runs: tables, curves and pictures as HTML and Markdown."""

from .report import Report
from .runs import machine_settings, read_curve, read_metrics
from .tables import markdown_table

__all__ = [
    'Report',
    'machine_settings',
    'markdown_table',
    'read_curve',
    'read_metrics',
]
