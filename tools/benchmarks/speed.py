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
counter (matrix products, convolutions, attention; not RoIAlign). Memory is
measured one model a process: the growth of the peak resident size over that
after the imports on a CPU, the allocator's peak on a GPU.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from speed_measure import alternate, median, memory_of, report_peak
from speed_models import (
    FGL,
    PRETRAINERS,
    detection_trainer,
    detectors,
    images,
    pretrainers,
    sampling_ratio,
)
from speed_report import markdown

from mmfgl.utils.flops import count_flops

PARTS = ('infer', 'train', 'memory', 'flops', 'pretrain', 'pipeline')
DETECTORS = ('fgl', 'faster-rcnn')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        '--size', default='480x640', help='HEIGHTxWIDTH of the network input'
    )
    parser.add_argument(
        '--config', default=str(FGL), help='config of the FGL detector'
    )
    parser.add_argument('--repeats', type=int, default=10)
    parser.add_argument(
        '--batch', type=int, default=2, help='images of a training step'
    )
    parser.add_argument(
        '--crop', type=int, default=224, help='side of the pretraining views'
    )
    parser.add_argument(
        '--pretrain-batch', type=int, default=8, help='images, two views each'
    )
    parser.add_argument('--proposals', type=int, default=1000)
    parser.add_argument(
        '--only', default=','.join(PARTS), help='parts to measure, of these'
    )
    parser.add_argument(
        '--data-root', help='folder of the pipeline part: see pipeline.py'
    )
    parser.add_argument('--device', help='default: cuda if there is one')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', help='folder of results.json and results.md')
    # how this program calls itself for one model's memory
    parser.add_argument('--memory-of', help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        args.height, args.width = map(int, args.size.split('x'))
    except ValueError:
        parser.error(f'--size must read like 480x640, not {args.size!r}')
    args.parts = args.only.split(',')
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f'--only knows {", ".join(PARTS)}, not {sorted(unknown)}')
    if args.repeats < 1:
        parser.error('--repeats must be at least 1')
    args.device = args.device or (
        'cuda' if torch.cuda.is_available() else 'cpu'
    )
    return args


def inference(args: argparse.Namespace) -> dict:
    """Seconds of ``test_step`` on one image, and their ratio."""
    models = detectors(args)
    batch = images(args, 1)

    def run(model) -> None:
        with torch.no_grad():
            model.test_step(batch)

    steps = {n: lambda m=m: run(m.eval()) for n, m in models.items()}
    times = alternate(steps, args.repeats, args.device)
    return dict(infer_seconds=median(times), infer_ratio=_ratio(times))


def training(args: argparse.Namespace) -> dict:
    """Seconds of a training step with optimizer, and their ratio."""
    models = detectors(args)
    steps = {n: detection_trainer(args, m) for n, m in models.items()}
    times = alternate(steps, args.repeats, args.device)
    return dict(train_seconds=median(times), train_ratio=_ratio(times))


def memory(args: argparse.Namespace) -> dict:
    """Peak memory in MB of training steps and of inference, and ratios.

    ``memory_ratio`` is that of the training step, the larger peak.
    """
    results = {}
    for part in ('train', 'infer'):
        peaks = {
            name: memory_of(__file__, args, f'{part}:{name}')
            for name in DETECTORS
        }
        results[f'{part}_memory_mb'] = peaks
        results[f'{part}_memory_ratio'] = peaks['fgl'] / peaks['faster-rcnn']
    results['memory_ratio'] = results.pop('train_memory_ratio')
    return results


def flops(args: argparse.Namespace) -> dict:
    """Floating-point operations of one image at test time, and the ratio."""
    batch = images(args, 1)
    counts = {
        name: count_flops(partial(model.eval().test_step, batch))
        for name, model in detectors(args).items()
    }
    return dict(
        flops=counts, flops_ratio=counts['fgl'] / counts['faster-rcnn']
    )


def pretraining(args: argparse.Namespace) -> dict:
    """Images a second of the pretraining methods, and ReToD's over theirs."""
    times = alternate(pretrainers(args), args.repeats, args.device)
    rates = {n: args.pretrain_batch / t for n, t in median(times).items()}
    return dict(
        pretrain_images_per_second=rates,
        pretrain_ratio={n: rates['retod'] / rates[n] for n in PRETRAINERS},
    )


def pipeline(args: argparse.Namespace) -> dict:
    """The two-view pipeline over that of MoCo v2; see pipeline.py."""
    from pipeline import measure_pipeline_ratio

    options = {'data_root': args.data_root} if args.data_root else {}
    return measure_pipeline_ratio(repeats=args.repeats, **options)


def _ratio(times: dict[str, list[float]]) -> float:
    medians = median(times)
    return medians['fgl'] / medians['faster-rcnn']


def _memory_child(args: argparse.Namespace) -> None:
    """Run one model and leave the peak to the caller's measurement."""
    part, name = args.memory_of.split(':')
    model = detectors(args, [name])[name]
    if part == 'train':
        step = detection_trainer(args, model)
    else:
        batch = images(args, 1)

        def step() -> None:
            with torch.no_grad():
                model.eval().test_step(batch)

    for _ in range(3):
        step()


def main() -> None:
    """Measure, write and print."""
    args = parse_args()
    # silence the initialisation of every layer
    MMLogger.get_instance('speed', log_level='WARNING')
    if args.memory_of:
        with report_peak(args.device):
            _memory_child(args)
        return
    measures = dict(
        infer=inference,
        train=training,
        memory=memory,
        flops=flops,
        pretrain=pretraining,
        pipeline=pipeline,
    )
    results = dict(settings=_settings(args))
    for part in args.parts:
        results.update(measures[part](args))
        # a long measurement that is stopped keeps its finished parts
        _write(results, args.out)
    print(markdown(results))


def _settings(args: argparse.Namespace) -> dict:
    """What the figures depend on."""
    names = ('size', 'repeats', 'batch', 'proposals', 'crop')
    names += ('pretrain_batch', 'device', 'seed')
    return dict(
        **{name: getattr(args, name) for name in names},
        config=Path(args.config).stem,
        sampling_ratio=sampling_ratio(args.config),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )


def _write(results: dict, folder: str | None) -> None:
    """Write ``results.json`` and ``results.md``."""
    if folder is None:
        return
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'results.json').write_text(json.dumps(results, indent=2))
    (out / 'results.md').write_text(markdown(results))


if __name__ == '__main__':
    main()
