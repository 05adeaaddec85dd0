#!/usr/bin/env python
r"""Measure RoI test-time augmentation beside plain testing and DetTTAModel.

One detector is tested in four ways in one process: plain; with MMDetection's
DetTTAModel (NMS at IoU 0.5, 100 boxes an image, as its docs set it up); with
RoITTAModel in mode 'views'; and in mode 'pyramid', which reads the reference
view alone. The last three are given the same views. They take turns on small
blocks of images, so that a noisy machine disturbs them alike.

    python tools/benchmarks/tta.py --config CONFIG.py \
        --checkpoint CHECKPOINT.pth [--data-root DIR] --out DIR

writes DIR/results.json and DIR/results.md. Counted is `test_step` on loaded
batches: preprocessing of the views it reads, network, NMS, fusion. Decoding
and resizing of images are left out for all. Times are medians over the blocks,
ratios medians of the blocks' ratios; AP is in percent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint
from tta_arms import build_arms, build_detector, changed_options
from tta_config import (
    VIEWS,
    fit_classes,
    read_config,
    set_views,
    take_images,
)
from tta_measure import build_loaders, build_metrics, run_arms
from tta_report import markdown, summarise

from mmfgl.models.test_time_augs import RoITTAModel
from mmfgl.utils.checks import check_data_root, check_num_classes
from mmfgl.utils.launch import check_file


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--config', required=True, help='config file')
    parser.add_argument('--checkpoint', required=True, help='its weights')
    parser.add_argument(
        '--data-root', help='replaces the data_root of the config'
    )
    parser.add_argument('--out', required=True, help='folder of the results')
    parser.add_argument(
        '--views',
        choices=VIEWS,
        default='config',
        help='tta_pipeline: that of the config, or a base of '
        'configs/_base_/tta/ at the test scale of the config',
    )
    parser.add_argument(
        '--images', type=int, help='test on so many images, evenly spaced'
    )
    parser.add_argument(
        '--block', type=int, default=4, help='batches between two turns'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        default={},
        help='override settings of the config; tta_model.KEY=VALUE sets '
        'options of RoITTAModel',
    )
    args = parser.parse_args()
    for name in ('images', 'block'):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f'--{name} must be at least 1')
    return args


def prepare(args: argparse.Namespace, folder: Path) -> tuple[Config, dict]:
    """Read config and checkpoint and check that they fit the data.

    Args:
        args: The command line.
        folder: Place for a smaller annotation file.

    Returns:
        The config, ready to build, and the checkpoint.
    """
    check_file(args.checkpoint, 'checkpoint')
    cfg = read_config(args.config, args.data_root, args.cfg_options)
    check_data_root(cfg)
    checkpoint = _load_checkpoint(args.checkpoint, map_location='cpu')
    fit_classes(cfg, checkpoint)
    check_num_classes(cfg, loaders=['test_dataloader'])
    set_views(cfg, args.views)
    if args.images:
        take_images(cfg, args.images, folder)
    return cfg, checkpoint


def measure(args: argparse.Namespace, folder: Path) -> dict:
    """Measure all arms.

    Args:
        args: The command line.
        folder: Place for intermediate files.

    Returns:
        Content of ``results.json``.
    """
    cfg, checkpoint = prepare(args, folder)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    detector = build_detector(cfg, checkpoint, get_device())
    arms = build_arms(cfg, detector)
    loaders = build_loaders(cfg)
    metrics = build_metrics(cfg, loaders['plain'], list(arms), folder)
    times, counts = run_arms(arms, loaders, metrics, args.block)
    results = summarise(
        times, counts, {name: m.summary() for name, m in metrics.items()}
    )
    results['settings'] = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        data_root=cfg.get('data_root'),
        views=args.views,
        images=sum(counts),
        block=args.block,
        batch_size=cfg.test_dataloader.get('batch_size', 1),
        options={
            name: changed_options(model)
            for name, model in arms.items()
            if isinstance(model, RoITTAModel)
        },
        device=get_device(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    return results


def main() -> None:
    """Measure, write and print."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = measure(args, Path(folder))
    text = markdown(results)
    print(text)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'results.json').write_text(json.dumps(results, indent=2))
    (out / 'results.md').write_text(text)


if __name__ == '__main__':
    main()
