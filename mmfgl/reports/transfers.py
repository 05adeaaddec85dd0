"""Sections on a benchmark of ``tools/benchmarks/transfer.py``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mmfgl.reports.document import Report

_METRICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')


def add_transfer(page: Report, name: str, results: Mapping[str, Any]) -> None:
    """Add the arms of a benchmark.

    Args:
        page: The report.
        name: Of the benchmark.
        results: Content of its ``results.json``.
    """
    page.section(f'Results: {name}')
    parts = {'': results}
    if 'data_sets' in results:
        parts = {'Mean of the data sets. ': results}
        parts |= {f'{k}. ': v for k, v in results['data_sets'].items()}
    for title, part in parts.items():
        rows = [_row(arm, values) for arm, values in part['arms'].items()]
        best = dict.fromkeys(_METRICS, max)
        caption = (
            f'{title}Box AP of COCO in percent, mean over the fine-tuning '
            'seeds; ± is the standard deviation of AP. Views seen: images '
            'times views of the pretraining.'
        )
        page.add_table(rows, caption, best=best)


def benchmark_settings(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """Settings and machine of a benchmark, as rows of a table."""
    settings = dict(results['settings'])
    settings |= settings.pop('machine', {})
    return [{'setting': k, 'value': _shown(v)} for k, v in settings.items()]


def _row(arm: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    aps = [value for value in values['AP'] if value is not None]
    row: dict[str, Any] = {'arm': arm}
    for metric in _METRICS:
        row[metric] = _mean(values.get(metric, ()))
        if metric == 'AP':
            row['±'] = statistics.stdev(aps) if len(aps) > 1 else None
    return row | {
        'seeds': len(aps),
        'pretraining, s': float(values['pretrain_seconds']),
        'views seen': values['images_seen'],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def _shown(value: Any) -> str:
    """A setting as text."""
    if isinstance(value, list):
        return ', '.join(map(str, value))
    return '–' if value is None else str(value)
