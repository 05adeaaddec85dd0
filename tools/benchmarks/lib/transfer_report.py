"""Table and curves of transfer.py."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lib.transfer_results import finetune_dir, pretrain_dir
from mmfgl.reports import markdown_table, read_curve
from mmfgl.reports.plots import plot_curves

SHOWN = ('AP', 'AP50', 'AP75', 'APs')
HEADER = ('arm', *SHOWN, 'seeds', 'pretraining, s', 'views seen')


def table(results: Mapping[str, Any]) -> str:
    """The table in Markdown; of several data sets, the means come first."""
    parts = {'': results}
    if 'data_sets' in results:
        parts = {'Mean of the data sets': results, **results['data_sets']}
    return '\n\n'.join(
        f'{title}\n\n{_arms_table(part["arms"])}'
        for title, part in parts.items()
    ).strip()


def _arms_table(arms: Mapping[str, Mapping]) -> str:
    rows = [
        [
            name,
            *(_spread(arm[metric]) for metric in SHOWN),
            len(arm['AP']),
            float(arm['pretrain_seconds']),
            arm['images_seen'],
        ]
        for name, arm in arms.items()
    ]
    return markdown_table(HEADER, rows)


def _spread(values: Sequence[float | None]) -> str:
    """Mean and standard deviation (of a sample) as text."""
    known = [value for value in values if value is not None]
    if not known:
        return '–'
    text = f'{statistics.mean(known):.1f}'
    if len(known) > 1:
        text += f' ± {statistics.stdev(known):.1f}'
    return text


def report(results: Mapping[str, Any], command: str) -> str:
    """Table, command and settings in Markdown."""
    caption = (
        'Percent; mean ± standard deviation over the fine-tuning seeds. '
        'Views seen: images times views of the pretraining.'
    )
    settings = dict(results['settings'])
    settings = markdown_table(
        ['setting', 'value'],
        [[k, str(v)] for k, v in (settings | settings.pop('machine')).items()],
    )
    code = f'```\n{command}\n```'
    return '\n\n'.join([table(results), caption, code, settings])


def draw_curves(out: Path, arms: Mapping[str, Mapping]) -> None:
    """Write ``pretraining.png``, ``finetuning.png`` and ``ap.png``."""
    names = dict.fromkeys(arm['pretraining'] for arm in arms.values())
    losses = {
        'pretraining': {
            name: read_curve(pretrain_dir(out, name)) for name in names if name
        },
        'finetuning': {  # of seed 0
            name: read_curve(finetune_dir(out, name, 0))
            for name, arm in arms.items()
            if arm['AP']
        },
    }
    for name, curves in losses.items():
        if curves:
            (out / f'{name}.png').write_bytes(plot_curves(curves))
    scores = {
        name: [(s, v) for s, v in enumerate(arm['AP']) if v is not None]
        for name, arm in arms.items()
    }
    (out / 'ap.png').write_bytes(plot_curves(scores, 'seed', 'AP'))
