#!/usr/bin/env python
"""Measure FGL Faster R-CNN and ReToD beside their counterparts.

Detection: FGL Faster R-CNN against MMDetection's own Faster R-CNN config, both
R50-FPN with the same random weights in backbone, neck and RPN, the same
images, 1000 proposals, the same precision and the same RoIAlign sampling.
Pretraining: ReToD against MMPretrain's own BYOL, MoCo v2 and DenseCL, all R50,
the same images in two views. Contestants alternate in one process; the figures
are medians.

    python tools/benchmarks/speed.py --size 480x640 --repeats 10 --out DIR

writes DIR/results.json and DIR/results.md. FLOPs are those of PyTorch's
counter (matrix products, convolutions, attention; not RoIAlign), a
multiply-add as two; those of the COCO pretrainings are of the forward pass of
all losses, for one image (no GPU needed: --only pretrain_cost). Memory is
measured one model a process: the growth of the peak resident size over that
after the imports on a CPU, the allocator's peak on a GPU.
"""

import argparse
from collections.abc import Callable

import torch
from lib.output import write_results
from lib.speed_models import (
    DETECTORS,
    FLAGSHIPS,
    PRETRAINERS,
    detectors,
    inference,
    pretraining,
    pretraining_cost,
    sampling_ratio,
    training,
)
from lib.timing import alternate, memory_of, report_peak
from mmengine.logging import MMLogger

from mmfgl.reports import markdown_table
from mmfgl.utils.flops import count_flops
from mmfgl.utils.user_errors import add_debug_argument, user_errors

SHARED_ARGUMENTS = ('size', 'batch', 'proposals', 'device')
MODES = {'infer': inference, 'train': training}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--size', default='480x640', help='HEIGHTxWIDTH of the network input')
    add('--repeats', type=int, default=10)
    add('--batch', type=int, default=2, help='images of a training step')
    add('--crop', type=int, default=224, help='side of the pretraining views')
    add('--pretrain-batch', type=int, default=8, help='of a pretraining step')
    add('--proposals', type=int, default=1000)
    add('--only', default=','.join(PARTS), help='parts to measure, of these')
    add('--data-root', default='', help='of the pipeline part: pipeline.py')
    add('--device', help='default: cuda if there is one')
    add('--out', help='folder of results.json and results.md')
    # how this program calls itself for one model's memory
    add('--memory-of', help=argparse.SUPPRESS)
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    try:
        args.height, args.width = map(int, args.size.split('x'))
    except ValueError:
        parser.error(f'--size must read like 480x640, not {args.size!r}')
    args.parts = args.only.split(',')
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f'--only knows {", ".join(PARTS)}, not {sorted(unknown)}')
    if args.repeats < 1:
        parser.error('--repeats must be at least 1')
    default = 'cuda' if torch.cuda.is_available() else 'cpu'
    args.device = args.device or default
    return args


def measure_time(args: argparse.Namespace, mode: str) -> dict:
    """Seconds of ``MODES[mode]`` of both detectors, and their ratio."""
    models = detectors(args)
    steps = {name: MODES[mode](args, m) for name, m in models.items()}
    times = alternate(steps, args.repeats, args.device)
    ratio = times['fgl'] / times['faster-rcnn']
    return {f'{mode}_seconds': times, f'{mode}_ratio': ratio}


def measure_memory(args: argparse.Namespace) -> dict:
    """Peak memory in MB of training steps and of inference, and ratios.

    ``memory_ratio`` is that of the training step, the larger peak.
    """
    shared = [f'--{key}={getattr(args, key)}' for key in SHARED_ARGUMENTS]
    results = {}
    for key, mode in (('memory', 'train'), ('infer_memory', 'infer')):
        peaks = {
            name: memory_of([__file__, f'--memory-of={mode}:{name}', *shared])
            for name in DETECTORS
        }
        results[f'{mode}_memory_mb'] = peaks
        results[f'{key}_ratio'] = peaks['fgl'] / peaks['faster-rcnn']
    return results


def run_for_memory(args: argparse.Namespace) -> None:
    """Run one model and report its peak to :func:`measure_memory`."""
    mode, name = args.memory_of.split(':')
    with report_peak(args.device):
        step = MODES[mode](args, detectors(args, [name])[name])
        for _ in range(3):
            step()


def measure_flops(args: argparse.Namespace) -> dict:
    """Floating-point operations of one image at test time, and the ratio."""
    counts = {
        name: count_flops(inference(args, model))
        for name, model in detectors(args).items()
    }
    ratio = counts['fgl'] / counts['faster-rcnn']
    return dict(flops=counts, flops_ratio=ratio)


def measure_pretraining(args: argparse.Namespace) -> dict:
    """Images a second of the pretraining methods, and ReToD's over theirs."""
    times = alternate(pretraining(args), args.repeats, args.device)
    rates = {name: args.pretrain_batch / t for name, t in times.items()}
    return dict(
        pretrain_images_per_second=rates,
        pretrain_ratio={n: rates['retod'] / rates[n] for n in PRETRAINERS},
    )


def count_pretraining(args: argparse.Namespace) -> dict:
    """Costs of the COCO pretrainings, in views of their size and of --crop."""
    costs = {
        name: [pretraining_cost(name), pretraining_cost(name, args.crop)]
        for name in FLAGSHIPS
    }
    return dict(pretrain_cost=costs)


def measure_pipeline(args: argparse.Namespace) -> dict:
    """The two-view pipeline over that of MoCo v2; see pipeline.py."""
    from pipeline import measure_pipeline_ratio

    return measure_pipeline_ratio(args.data_root, args.repeats)


PARTS: dict[str, Callable[[argparse.Namespace], dict]] = {
    'infer': lambda args: measure_time(args, 'infer'),
    'train': lambda args: measure_time(args, 'train'),
    'memory': measure_memory,
    'flops': measure_flops,
    'pretrain': measure_pretraining,
    'pretrain_cost': count_pretraining,
    'pipeline': measure_pipeline,
}
# Row of the table, keys of its ratio and values, unit and the unit's size.
ROWS = (
    ('inference time', 'infer_ratio', 'infer_seconds', 's', 1),
    ('training step', 'train_ratio', 'train_seconds', 's', 1),
    ('memory, training', 'memory_ratio', 'train_memory_mb', 'MB', 1),
    ('memory, inference', 'infer_memory_ratio', 'infer_memory_mb', 'MB', 1),
    ('FLOPs, inference', 'flops_ratio', 'flops', 'G', 1e9),
)
# Keys of what a pretraining costs, and their units.
COST = dict(params=1e6, student_flops=1e9, teacher_flops=1e9)


def markdown(results: dict) -> str:
    """Tables of the parts that ``results`` has."""
    blocks, rows = [], []
    for title, ratio, key, unit, size in ROWS:
        if ratio in results:
            values = [results[key][name] / size for name in DETECTORS]
            cells = [f'{value:.4g} {unit}' for value in values]
            rows.append([title, results[ratio], *cells])
    if rows:
        header = ['FGL / Faster R-CNN', 'ratio', 'FGL', 'Faster R-CNN']
        blocks.append(markdown_table(header, rows, digits=3))
    if 'pretrain_ratio' in results:
        rates = results['pretrain_images_per_second']
        rows = [['ReToD', rates['retod'], 1.0]]
        for name, ratio in results['pretrain_ratio'].items():
            rows.append([name, rates[name], ratio])
        header = ['pretraining', 'images/s', 'ReToD / this']
        blocks.append(markdown_table(header, rows, digits=3))
    if 'pretrain_cost' in results:
        rows = [
            [
                f'{name}, {cost["view_size"]} px, {cost["rois"]} RoIs',
                *(cost[k] / u for k, u in COST.items()),
            ]
            for name, costs in results['pretrain_cost'].items()
            for cost in costs
        ]
        header = ['one image', 'trained, M', 'student, GFLOPs', 'teacher']
        blocks.append(markdown_table(header, rows, digits=1))
    if 'pipeline_ratio' in results:
        blocks.append(
            'Two-view pipeline over that of MoCo v2: '
            f'{results["pipeline_ratio"]:.3f} (images/s/core).'
        )
    settings = ', '.join(f'{k} {v}' for k, v in results['settings'].items())
    return '\n\n'.join([*blocks, f'Settings: {settings}.'])


def measure(args: argparse.Namespace) -> None:
    """Measure, write and print."""
    # silence the initialisation of every layer
    MMLogger.get_instance('speed', log_level='WARNING')
    if args.memory_of:
        run_for_memory(args)
        return
    names = (*SHARED_ARGUMENTS, 'repeats', 'crop', 'pretrain_batch')
    settings = {name: getattr(args, name) for name in names}
    settings.update(sampling_ratio=sampling_ratio(), torch=torch.__version__)
    settings['threads'] = torch.get_num_threads()
    results = dict(settings=settings)
    for part in args.parts:
        results.update(PARTS[part](args))
        # a long measurement that is stopped keeps its finished parts
        if args.out is not None:
            write_results(args.out, results, markdown(results))
    print(markdown(results))


def main(argv: list[str] | None = None) -> None:
    """Measure, see the module's docstring."""
    args = parse_args(argv)
    with user_errors(args.debug):
        measure(args)


if __name__ == '__main__':
    main()
