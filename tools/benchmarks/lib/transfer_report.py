"""Table, curves and report of transfer.py."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.transfer_results import finetune_dir, pretrain_dir
from mmfgl.utils.reports import Report, markdown_table, read_curve
from mmfgl.utils.reports.plots import plot_curves

SHOWN = ('AP', 'AP50', 'AP75', 'APs')
HEADER = ('arm', *SHOWN, 'seeds', 'pretraining, s', 'views seen')


def table_rows(arms: Mapping[str, Mapping]) -> list[list]:
    """Rows of the table with the columns ``HEADER``.

    Args:
        arms: ``results['arms']``.
    """
    return [
        [
            name,
            *(_spread(arm[metric]) for metric in SHOWN),
            len(arm['AP']),
            float(arm['pretrain_seconds']),
            arm['images_seen'],
        ]
        for name, arm in arms.items()
    ]


def _spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation (of a sample) as text."""
    known = [value for value in values if value is not None]
    if not known:
        return '–'
    text = f'{statistics.mean(known):.1f}'
    if len(known) > 1:
        text += f' ± {statistics.stdev(known):.1f}'
    return text


def table(results: Mapping[str, Any]) -> str:
    """The table of the results in Markdown.

    Args:
        results: Content of ``results.json``; of several data sets, the means
            come first.
    """
    parts = {'': results}
    if 'data_sets' in results:
        parts = {'Mean of the data sets': results, **results['data_sets']}
    return '\n\n'.join(
        f'{title}\n\n{markdown_table(HEADER, table_rows(part["arms"]))}'
        for title, part in parts.items()
    ).strip()


def write_report(out: Path, results: Mapping[str, Any], command: str) -> Path:
    """Write ``report.html``, ``report.md`` and the PNGs of a data set.

    Args:
        out: Folder of the benchmark.
        results: Content of ``results.json``.
        command: The command line.

    Returns:
        The HTML file.
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
    rows = [dict(zip(HEADER, row, strict=True)) for row in table_rows(arms)]
    report.add_table('Results', rows, caption)
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
    return report.write(out)


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
