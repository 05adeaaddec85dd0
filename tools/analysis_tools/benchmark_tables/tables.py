"""The tables by name, as Markdown, from kept results alone."""

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmark_tables.comparing import (
    DETECTORS,
    STARTS,
    Comparison,
    by_detector,
    compare,
    known,
    renamed,
    spread,
)
from benchmark_tables.kept import Kept
from benchmark_tables.plain_tables import (
    MISSING,
    RATIOS,
    export_table,
    faults_table,
    pipeline_table,
    pretrain_speed_table,
    ranks_table,
    run_table,
    speed_table,
    syncs_table,
    table,
    tta_table,
)
from benchmark_tables.pretrain_costs import cost_table, plan_table

ARMS = ('none', 'distill', 'lightly', 'objectness', 'dense', 'retod')
BASELINES = ('none', 'distill', 'objectness')
# The development sets: data, whose rows are asked for on both starts.
SETS = ('aquarium', 'bccd', 'microcontrollers', 'coco_subset')
MANY = 6  # files below a table that are named one by one


def render(name: str, kept: Sequence[Kept], only: Mapping[str, str]) -> str:
    """One table, and below it the files that its numbers come from.

    Args:
        name: One of :data:`TABLES`.
        kept: All kept results.
        only: Setting -> value: leaves out runs of other settings.

    Raises:
        ValueError: There is no such table, or no such setting.
    """
    if name not in TABLES:
        raise ValueError(
            f'there is no table {name!r}, there are {", ".join(TABLES)}'
        )
    kind, parts, make = TABLES[name]
    runs = [
        run
        for run in kept
        if run.kind == kind
        and (not parts or not parts.isdisjoint(run.metrics))
    ]
    runs = by_detector(runs)
    for key, value in only.items():
        if runs and all(key not in run.settings for run in runs):
            raise ValueError(f'no run of the table {name!r} has {key!r}')
        runs = [r for r in runs if str(r.settings.get(key)) == value]
    if not runs:
        return f'{MISSING.capitalize()}.'
    return f'{make(runs)}\n\n{sources(runs)}'


def sources(runs: Sequence[Kept]) -> str:
    """Names the files, with their commits; many of them by a pattern."""
    names = sorted({run.name for run in runs})
    if len(names) > MANY:
        commits = sorted({c[:7] for run in runs for c in run.commits})
        return (
            f'From the {len(names)} files `benchmarks/results/'
            f'{os.path.commonprefix(names)}*.json`, of the commits '
            f'{", ".join(commits)}.'
        )
    files = dict.fromkeys(
        f'`{run.name}.json` ({", ".join(c[:7] for c in run.commits)})'
        for run in runs
    )
    return (
        'From `benchmarks/results/`, at the commits in brackets: '
        + ', '.join(files)
        + '.'
    )


def arms_table(runs: Sequence[Kept]) -> str:
    """Arms side by side: one row a comparison, then the means of a start."""
    rows, seen, groups = [], set(), compare(runs)
    for group in groups:
        seen.add((group.settings['data'], group.settings['init']))
        scores = {
            arm: group.arms[arm].of('AP') for arm in ARMS if arm in group.arms
        }
        best = max(scores, key=lambda arm: sum(scores[arm]) / len(scores[arm]))
        cells = []
        for arm in ARMS:
            if arm not in scores:
                cells.append(MISSING)
                continue
            text = spread(scores[arm])
            if arm == best and len(scores) > 1:
                text = f'**{text}**'
            cells.append(f'{text} ({group.arms[arm].num_runs})')
        settings = group.settings
        rows.append(
            [
                f'{settings["data"]}, {STARTS[settings["init"]]}',
                DETECTORS[group.detector],
                group.labels,
                group.equal,
                f'{settings["finetune_iters"]} iterations',
                *cells,
            ]
        )
    for init, start in STARTS.items():
        same = [group for group in groups if group.settings['init'] == init]
        if same:
            name = f'*retod above it*, {start}'
            rows.append([name, *[''] * 4, *_lead(same)])
    header = ['data, start', 'detector', 'labels', 'pretraining']
    text = table([*header, 'fine-tuning', *ARMS], rows)
    text += (
        '\n\nBox AP in percent on the val images: mean ± standard deviation '
        'over the fine-tuning runs, whose number is in brackets. *retod above '
        'it*, from each start: mean over the data sets, whose number is in '
        'brackets, each the mean of its rows that have both arms, over the '
        'seeds that both have; then the least and the most of a row.'
    )
    absent = [
        f'{data} from {STARTS[init]}{"" if init == "imagenet" else " weights"}'
        for data in SETS
        for init in sorted({init for _, init in seen})
        if (data, init) not in seen
    ]
    few = any(
        r.settings.get('labels') or r.settings.get('shots') for r in runs
    )
    absent += [] if few else ['few labels']
    if absent:
        text += f' {MISSING.capitalize()}: {", ".join(absent)}.'
    return text


def _lead(groups: Sequence[Comparison]) -> list[str]:
    """How far retod lies above each other arm: of data sets, and of rows."""
    cells = []
    for arm in ARMS:
        sets: dict[str, list[float]] = {}
        for group in groups:
            for lead in known([group.difference('retod', arm)]):
                sets.setdefault(group.settings['data'], []).append(lead)
        if not sets:
            cells.append('–')
            continue
        mean = statistics.mean(map(statistics.mean, sets.values()))
        rows = sorted(sum(sets.values(), []))
        text = f'{mean:+.1f} ({len(sets)}), {rows[0]:+.1f} to {rows[-1]:+.1f}'
        cells.append(text)
    return cells


def transfer_table(runs: Sequence[Kept]) -> str:
    """Every arm beside its baselines: one row an arm."""
    rows = []
    for group in compare(runs):
        name = f'{group.setting}, {DETECTORS[group.detector]}'
        name += f', {group.equal}' if group.budget else ''
        name += f', fine-tuning: {group.settings["finetune_iters"]} iterations'
        rows += [_arm_row(name, group, arm) for arm in group.arms]
    header = ['setting', 'arm', 'AP', 'AP50', 'AP75', 'APs']
    header += ['AP of each seed', *(f'– {arm}' for arm in BASELINES)]
    text = table([*header, 'views seen'], rows)
    text += (
        '\n\nPercent; mean ± standard deviation over the fine-tuning runs. '
        'Semicolons part the seeds of several pretrainings. *– arm*: AP above '
        'that arm, over the seeds that both have. Views seen: images times '
        'views of one pretraining.'
    )
    return text + _renamed(runs)


def _arm_row(setting: str, group: Comparison, name: str) -> list[str]:
    arm = group.arms[name]
    seeds = '; '.join(
        ', '.join(f'{value:.1f}' for value in known(run['AP']))
        for run in arm.runs
    )
    views = sorted({run['images_seen'] for run in arm.runs})
    differences = [group.difference(name, base) for base in BASELINES]
    return [
        setting,
        name,
        *(spread(arm.of(key)) for key in ('AP', 'AP50', 'AP75', 'APs')),
        seeds,
        *('–' if d is None else f'{d:+.1f}' for d in differences),
        ', '.join(f'{number:,}' for number in views),
    ]


def _renamed(runs: Iterable[Kept]) -> str:
    pairs = {pair for run in runs for pair in renamed(run).items()}
    if not pairs:
        return ''
    names = ', '.join(f'`{new}` as `{old}`' for old, new in sorted(pairs))
    return f' Some files have arms under older names: {names}.'


PLAN = {'pretrain_cost', 'pretrain_images_per_second'}
# name -> kind of its files, parts that a file has one of (any if empty),
# function that makes it
TABLES: dict[str, tuple[str, set[str], Callable[[Sequence[Kept]], str]]] = {
    'arms': ('transfer', set(), arms_table),
    'transfer': ('transfer', set(), transfer_table),
    'speed': ('speed', set(RATIOS.values()), speed_table),
    'speed-pretrain': ('speed', {'pretrain_ratio'}, pretrain_speed_table),
    'pretrain-cost': ('speed', {'pretrain_cost'}, cost_table),
    'pretrain-plan': ('speed', PLAN, plan_table),
    'syncs': ('syncs', set(), syncs_table),
    'ranks': ('ranks', set(), ranks_table),
    'tta': ('tta', set(), tta_table),
    'faults': ('faults', set(), faults_table),
    'pipeline': ('pipeline', set(), pipeline_table),
    'run': ('run', set(), run_table),
    'export': ('export', set(), export_table),
}
