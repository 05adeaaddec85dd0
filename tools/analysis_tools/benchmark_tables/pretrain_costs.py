"""What the COCO pretrainings cost: counted, and calculated from it.

The model is that of docs/en/clusters.md, whose letters are used here: F, P,
u, w, N and b.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmark_tables.kept import Kept
from benchmark_tables.plain_tables import table

CONFIG = 'retod_r50-fpn'  # whose time is calculated
U = {"assumed: a quarter of an A100's bf16 peak": 78e12}
# title -> N, w in bytes a second
NODES = {
    '1': (1, 1.0),
    '8, one node': (8, 200e9),
    '16, two nodes': (16, 25e9),
    '16, two nodes, 10 GbE': (16, 1.25e9),
    '64, eight nodes': (64, 25e9),
}
IMAGES, EPOCHS = 241_000, 100


def training_flops(cost: Mapping[str, Any]) -> float:
    """F, the operations of an image in training.

    A backward pass takes twice those of the forward pass; a frozen teacher
    has none.
    """
    return 3 * cost['student_flops'] + cost['teacher_flops']


def cost_table(runs: Sequence[Kept]) -> str:
    """Counted operations of an image: one row a config and size of view."""
    rows = []
    for run in runs:
        for name, costs in run.metrics['pretrain_cost'].items():
            for cost in costs:
                teacher = cost['teacher_flops']
                rows.append(
                    [
                        f'`{name}`',
                        f'{cost["view_size"]} px',
                        cost['rois'],
                        f'{cost["params"] / 1e6:.1f} M',
                        _giga(cost['student_flops']),
                        _giga(teacher) if teacher else '–',
                        _giga(training_flops(cost)),
                        f'{4e-6 * cost["params"]:.0f} MB',
                    ]
                )
    header = ['config', 'view', 'RoIs', 'P', 'student, forward', 'teacher']
    return table([*header, 'F', 'gradients'], rows)


def plan_table(runs: Sequence[Kept]) -> str:
    """Calculated images a second and time: one row a number of GPUs.

    The speed of a GPU is assumed, or that of the fastest run on it.

    Raises:
        ValueError: No run counts the views of a measured speed.
    """
    counted = [r for r in runs if 'pretrain_cost' in r.metrics]
    costs = {
        cost['view_size']: cost
        for run in counted
        for cost in run.metrics['pretrain_cost'][CONFIG]
    }
    fastest = {}
    for run in runs:
        rate = run.metrics.get('pretrain_images_per_second', {}).get('retod')
        if rate is not None and run.device != 'cpu':
            key = run.device, run.settings['crop']
            fastest[key] = max(rate, fastest.get(key, 0))
    speeds = dict(U)
    for (device, size), rate in fastest.items():
        if size not in costs:
            raise ValueError(f'no kept run counts {CONFIG} at {size} px')
        title = f'of one {device}, fp32, {size} px: {rate:.0f} images/s'
        speeds[title] = rate * training_flops(costs[size])
    cost = costs[max(costs)]  # the config's views
    batch = runs[0].settings['pretrain_batch']
    rows = [
        [title, *_calculated(cost, batch, speeds.values(), *nodes)]
        for title, nodes in NODES.items()
    ]
    header = ['GPUs', 'w, assumed', 'sent by each']
    for title, speed in speeds.items():
        header += [f'images/s at u = {speed / 1e12:.3g} TFLOP/s ({title})']
        header += [f'{EPOCHS} epochs of {IMAGES:,} images']
    return table(header, rows)


def _calculated(
    cost: Mapping[str, Any],
    batch: int,
    speeds: Sequence[float],
    gpus: int,
    link: float,
) -> list[str]:
    sent = 2 * (gpus - 1) / gpus * 4 * cost['params']
    cells = ['–', '–']
    if sent:
        cells = [f'{link / 1e9:g} GB/s', f'{sent / 1e6:.0f} MB']
    for speed in speeds:
        seconds = batch * training_flops(cost) / speed + sent / link
        rate = gpus * batch / seconds
        hours = IMAGES * EPOCHS / rate / 3600
        time = f'{hours:.{hours < 10:d}f} h'
        if hours < 1:
            time = f'{60 * hours:.0f} min'
        cells += [f'{float(f"{rate:.3g}"):,.0f}', time]
    return cells


def _giga(flops: float) -> str:
    return f'{flops / 1e9:.0f} GFLOPs'
