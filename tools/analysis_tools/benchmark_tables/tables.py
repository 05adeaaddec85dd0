"""The tables by name, as Markdown, from kept results alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

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
from benchmark_tables.kept import METRICS, Kept

ARMS = ('none', 'distill', 'objectness', 'dense', 'retod')
BASELINES = ('none', 'distill', 'objectness')
# The development sets: data, whose rows are asked for on both starts.
SETS = ('aquarium', 'bccd', 'microcontrollers', 'coco_subset')
MISSING = 'not yet measured'
RATIOS = {
    'inference': 'infer_ratio',
    'training step': 'train_ratio',
    'memory, training': 'memory_ratio',
    'memory, inference': 'infer_memory_ratio',
    'FLOPs': 'flops_ratio',
}
TTA = {
    'plain': 'plain',
    'det_tta': 'DetTTAModel',
    'det_tta_wbf': 'DetTTAModel, WBF',
    'roi_tta_views': 'RoITTAModel, `views`',
    'roi_tta_pyramid': 'RoITTAModel, `pyramid`',
    'roi_tta_slices': 'RoITTAModel, `slices`',
}


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


def sources(runs: Iterable[Kept]) -> str:
    """Names the files, with their commits."""
    files = dict.fromkeys(
        f'`{run.name}.json` ({", ".join(c[:7] for c in run.commits)})'
        for run in runs
    )
    return (
        'From `benchmarks/results/`, at the commits in brackets: '
        + ', '.join(files)
        + '.'
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown, the first column to the left."""
    lines = [header, ['---'] + ['--:'] * (len(header) - 1), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def arms_table(runs: Sequence[Kept]) -> str:
    """Arms side by side: one row a comparison."""
    rows, seen = [], set()
    for group in compare(runs):
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
    header = ['data, start', 'detector', 'labels', 'pretraining']
    text = table([*header, 'fine-tuning', *ARMS], rows)
    text += (
        '\n\nBox AP in percent on the val images: mean ± standard deviation '
        'over the fine-tuning runs, whose number is in brackets.'
    )
    absent = [
        f'{data} from {STARTS[init]}{"" if init == "imagenet" else " weights"}'
        for data in SETS
        for init in STARTS
        if (data, init) not in seen
    ]
    few = any(
        r.settings.get('labels') or r.settings.get('shots') for r in runs
    )
    absent += [] if few else ['few labels']
    if absent:
        text += f' {MISSING.capitalize()}: {", ".join(absent)}.'
    return text + _renamed(runs)


def transfer_table(runs: Sequence[Kept]) -> str:
    """Every arm beside its baselines: one row an arm."""
    rows = []
    for group in compare(runs):
        name = f'{group.setting}, {DETECTORS[group.detector]}'
        name += f', {group.equal}' if group.budget else ''
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


def speed_table(runs: Sequence[Kept]) -> str:
    """FGL over Faster R-CNN: one row a run."""
    rows = [
        [
            f'{run.settings["size"]}, {run.device}',
            *(
                f'{run.metrics[key]:.3f}' if key in run.metrics else MISSING
                for key in RATIOS.values()
            ),
            run.commits[-1][:7],
        ]
        for run in runs
    ]
    return table(['FGL / Faster R-CNN', *RATIOS, 'commit'], rows)


def pretrain_speed_table(runs: Sequence[Kept]) -> str:
    """Images a second of ReToD and its peers: one row a run."""
    peers = list(runs[0].metrics['pretrain_ratio'])
    rows = []
    for run in runs:
        rates = run.metrics['pretrain_images_per_second']
        ratios = run.metrics['pretrain_ratio']
        rows.append(
            [
                f'{run.commits[-1][:7]}, {run.device}, '
                f'{run.settings["threads"]} thread(s)',
                f'{rates["retod"]:.2f}',
                *(f'{rates[p]:.2f} ({ratios[p]:.2f})' for p in peers),
            ]
        )
    header = ['images a second (ReToD / this)', 'retod', *peers]
    return table(header, rows)


def syncs_table(runs: Sequence[Kept]) -> str:
    """How often a step makes the host wait: one row a case."""
    rows = []
    for run in runs:
        for case, found in run.metrics.items():
            waits = found['waits']
            ours = sum(n for k, n in waits.items() if k.startswith('mmfgl '))
            uploads = sum(found['uploads'].values())
            device = 'pretended' if run.device == 'cpu' else run.device
            rows.append([case, device, sum(waits.values()), ours, uploads])
    header = ['step', 'GPU', 'waits', "in mmfgl's own lines", 'uploads']
    return table(header, rows)


def ranks_table(runs: Sequence[Kept]) -> str:
    """Two ranks over one rank with two threads: one row a run."""
    rows = []
    for run in runs:
        config = run.settings['config'].rsplit('/', 1)[-1]
        ratios = (run.metrics[key] for key in METRICS['ranks'])
        rows.append([f'`{config}`', *(f'{ratio:.2f}' for ratio in ratios)])
    header = ['config', 'images a second', 'images a second of CPU time']
    return table(header, rows)


def tta_table(runs: Sequence[Kept]) -> str:
    """Plain testing and kinds of TTA: AP and time over that of plain."""
    rows = []
    for run in runs:
        cells = []
        for arm in TTA:
            found = run.metrics.get(arm)
            if not found:
                cells.append('–')
                continue
            plain = run.metrics['plain']['seconds_per_image']
            ratio = found['seconds_per_image'] / plain
            cells.append(f'{found["AP"]:.1f}, {ratio:.2f} x')
        config = run.settings['config'].rsplit('/', 1)[-1]
        rows.append([f'`{config}`, {run.settings["views"]}', *cells])
    return table(['config, views', *TTA.values()], rows)


def faults_table(runs: Sequence[Kept]) -> str:
    """Faults that ended as expected, and kills survived: one row a run."""
    rows = []
    for run in runs:
        cases = run.metrics['rows']
        good = sum(case['ok'] for case in cases)
        kills = f'{run.metrics["survived"]} of {run.metrics["kills"]}'
        commit = run.commits[-1][:7]
        rows.append([commit, f'{good} of {len(cases)}', kills])
    header = ['commit', 'faults that end as expected', 'kills survived']
    return table(header, rows)


def pipeline_table(runs: Sequence[Kept]) -> str:
    """Images a second and core of the input pipelines: one row a run."""
    keys = ('ours_images_per_second', 'mocov2_images_per_second')
    rows = [
        [
            run.commits[-1][:7],
            *(f'{run.metrics[key]:.0f}' for key in keys),
            f'{run.metrics["pipeline_ratio"]:.1f}',
        ]
        for run in runs
    ]
    header = ['commit', 'two views of mmfgl', 'MoCo v2 of MMPretrain', 'ratio']
    return table(header, rows)


# name -> kind of its files, parts that a file has one of (any if empty),
# function that makes it
TABLES: dict[str, tuple[str, set[str], Callable[[Sequence[Kept]], str]]] = {
    'arms': ('transfer', set(), arms_table),
    'transfer': ('transfer', set(), transfer_table),
    'speed': ('speed', set(RATIOS.values()), speed_table),
    'speed-pretrain': ('speed', {'pretrain_ratio'}, pretrain_speed_table),
    'syncs': ('syncs', set(), syncs_table),
    'ranks': ('ranks', set(), ranks_table),
    'tta': ('tta', set(), tta_table),
    'faults': ('faults', set(), faults_table),
    'pipeline': ('pipeline', set(), pipeline_table),
}
