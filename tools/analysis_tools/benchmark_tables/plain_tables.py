"""The tables that show kept results as they are: one or few rows a run."""

from collections.abc import Iterable, Sequence
from typing import Any

from benchmark_tables.kept import METRICS, SCORES, Kept

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


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown, the first column to the left."""
    lines = [header, ['---'] + ['--:'] * (len(header) - 1), *rows]
    return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


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
        rows.append([f'`{run.name}`, {run.settings["views"]}', *cells])
    return table(['kept run, views', *TTA.values()], rows)


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


def run_table(runs: Sequence[Kept]) -> str:
    """Detectors of `mmfgl run`, plain and with TTA: one row a detector."""
    rows = []
    for run in runs:
        settings = run.settings
        length = f'{settings["iters"]} iterations'
        if settings['minutes'] is not None:
            length = f'{settings["minutes"]:g} min'
        device = run.machine['GPUs']
        if device == 'none':
            device = f'{run.machine["cores"]} CPU cores'
        title = f'{settings["photos"]}, {length}, {device}'
        for arm, found in run.metrics.items():
            iters = f'{found["iters"]}'
            if arm == 'retod':
                iters = f'{settings["pretrain_iters"]} + {iters}'
            plain, tta = found['plain'], found['tta']
            rows.append(
                [
                    f'{title}: `{arm}`',
                    iters,
                    *(f'{plain[key]:.1f}' for key in SCORES[:3]),
                    f'{tta["AP"]:.1f}',
                ]
            )
    header = ['data, length, machine: detector', 'iterations', *SCORES[:3]]
    return table([*header, 'AP with RoI TTA'], rows)


def export_table(runs: Sequence[Kept]) -> str:
    """Detections of PyTorch beside ONNX Runtime's: one row a check."""
    rows = []
    for run in runs:
        found = run.metrics
        rows.append(
            [
                f'{run.settings["model"]}, {run.settings["config"]}',
                *(found[key] for key in ('images', 'torch', 'onnx')),
                found['matches'],
                *(f'{found[key]:.1g}' for key in ('box', 'score')),
            ]
        )
    header = ['detector', 'images', 'detections of PyTorch']
    header += ['of ONNX Runtime', 'that match', 'boxes differ by up to, px']
    return table([*header, 'scores by up to'], rows)
