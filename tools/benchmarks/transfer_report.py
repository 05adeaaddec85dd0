"""Table, curves and report of transfer.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transfer_results import finetune_dir, pretrain_dir

from mmfgl.utils.reports import Report, read_curve
from mmfgl.utils.reports.plots import plot_curves

SHOWN = ('AP', 'AP50', 'AP75', 'APs')


def _spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation (of a sample) as text."""
    known = [value for value in values if value is not None]
    if not known:
        return '–'
    text = f'{statistics.mean(known):.1f}'
    if len(known) > 1:
        text += f' ± {statistics.stdev(known):.1f}'
    return text


def table_rows(arms: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Rows of the table.

    Args:
        arms: ``results['arms']``.

    Returns:
        One mapping of column to cell per arm.
    """
    return [
        {
            'arm': name,
            **{metric: _spread(arm[metric]) for metric in SHOWN},
            'seeds': len(arm['AP']),
            'pretraining, s': float(arm['pretrain_seconds']),
            'views seen': arm['images_seen'],
        }
        for name, arm in arms.items()
    ]


def write_report(out: Path, results: Mapping[str, Any], command: str) -> str:
    """Write ``report.html``, ``report.md``, ``table.md`` and the PNGs.

    Args:
        out: Folder of the benchmark.
        results: Content of ``results.json``.
        command: The command line.

    Returns:
        The table in Markdown.
    """
    arms = results['arms']
    report = Report(
        'Transfer: detection after pretraining',
        'Every arm pretrains the same backbone on the train images for the '
        'same time, without labels; the same detector is then fine-tuned from '
        'each with several seeds and evaluated once, on val.',
    )
    caption = (
        'Percent; mean ± standard deviation over the fine-tuning seeds. '
        'Views seen: images times views of the pretraining.'
    )
    report.add_table('Results', table_rows(arms), caption)
    for name, title, curves, xlabel, ylabel in _curves(out, arms):
        report.add_curves(title, curves, xlabel, ylabel)
        png = plot_curves(curves, xlabel, ylabel)
        (out / f'{name}.png').write_bytes(png)
    loaded = [
        dict(arm=name, loaded=arm['loaded'] or 'nothing')
        for name, arm in arms.items()
    ]
    report.add_table('What the detector took over', loaded)
    settings = dict(results['settings'])
    report.add_settings('Settings', settings.pop('machine') | settings)
    report.add_code('Command', command)
    report.write(out)
    section = (out / 'report.md').read_text().split('\n## ')[1]
    rows = [line for line in section.splitlines() if line.startswith('|')]
    table = '\n'.join(rows) + '\n'
    (out / 'table.md').write_text(table, encoding='utf-8')
    return table


def _curves(out: Path, arms: Mapping[str, Mapping]) -> Iterator[tuple]:
    """Name, title, curves and axes of the plots that have any content."""
    names = {arm['pretraining']: None for arm in arms.values()}
    pretraining = {
        name: read_curve(pretrain_dir(out, name)) for name in names if name
    }
    if pretraining:
        title = 'Pretraining losses'
        yield 'pretraining', title, pretraining, 'iteration', 'loss'
    finetuning = {
        name: read_curve(finetune_dir(out, name, 0))
        for name, arm in arms.items()
        if arm['AP']
    }
    title = 'Fine-tuning losses, seed 0'
    yield 'finetuning', title, finetuning, 'iteration', 'loss'
    scores = {
        name: [(s, v) for s, v in enumerate(arm['AP']) if v is not None]
        for name, arm in arms.items()
    }
    yield 'ap', 'AP over seeds', scores, 'seed', 'AP'
