#!/usr/bin/env python
r"""Measure RoI test-time augmentation beside plain testing and DetTTAModel.

One detector is tested in one process: plain; with MMDetection's DetTTAModel
(NMS at IoU 0.5, 100 boxes an image, as its docs set it up), also with weighted
boxes fusion for its NMS; with RoITTAModel on the same views, in mode
'pyramid', which reads the reference view alone, and on the slices of
configs/_base_/tta/slices.py. They take turns on small blocks of images, so
that a noisy machine disturbs them alike.

    python tools/benchmarks/tta.py --config CONFIG.py \
        --checkpoint CHECKPOINT.pth [--data-root DIR] --out DIR

writes DIR/results.json and DIR/results.md. Counted is `test_step` on loaded
batches: preprocessing of the views it reads, network, NMS, fusion. Decoding
and resizing of images are left out for all. Times are medians over the blocks,
ratios medians of the blocks' ratios; AP is in percent.
"""

import argparse

import torch
from lib.output import write_results
from lib.tta_arms import build_arms, build_detector, roi_tta_options
from lib.tta_config import VIEWS, fit_classes, read_config, set_views
from lib.tta_measure import (
    STATS,
    build_loaders,
    build_metrics,
    precisions,
    run_arms,
    summarise_times,
)
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope

from mmfgl.reports import markdown_table
from mmfgl.utils.audit import audit_config
from mmfgl.utils.config_checks import check_data_root
from mmfgl.utils.launch import OptionAction
from mmfgl.utils.user_errors import add_debug_argument, user_errors
from mmfgl.utils.weights import (
    check_opened_weights,
    safe_load,
    use_safe_loading,
)

ARMS = dict(
    plain='plain',
    det_tta='DetTTAModel',
    det_tta_wbf='DetTTAModel, WBF',
    roi_tta_views='RoITTAModel, views',
    roi_tta_pyramid='RoITTAModel, pyramid',
    roi_tta_slices='RoITTAModel, slices',
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('--config', required=True, help='config file')
    add('--checkpoint', required=True, help='its weights')
    add('--data-root', help='replaces the data_root of the config')
    add('--out', required=True, help='folder of the results')
    add(
        '--views',
        choices=VIEWS,
        default='config',
        help='tta_pipeline: that of the config, or a base of '
        'configs/_base_/tta/ at the test scale of the config',
    )
    add(
        '--cfg-options',
        nargs='+',
        action=OptionAction,
        default={},
        help='override settings of the config; tta_model.KEY=VALUE sets '
        'options of RoITTAModel',
    )
    trust = 'unpickle whatever the checkpoint holds, which can run any code'
    add('--trust-checkpoint', action='store_true', help=trust)
    add_debug_argument(parser)
    return parser.parse_args()


def prepare(args: argparse.Namespace) -> tuple[Config, dict]:
    """Read config and checkpoint and check that they fit the data."""
    use_safe_loading(args.trust_checkpoint)
    cfg = read_config(args.config, args.data_root, args.cfg_options)
    cfg.work_dir = args.out  # of mended annotations
    check_opened_weights(cfg.model)
    check_data_root(cfg, ['test_dataloader'])
    checkpoint = safe_load(args.checkpoint, args.trust_checkpoint)
    fit_classes(cfg, checkpoint)
    audit_config(cfg, loaders=['test_dataloader'])
    set_views(cfg, args.views)
    return cfg, checkpoint


def measure(args: argparse.Namespace) -> dict:
    """Measure all contestants; gives the content of ``results.json``."""
    cfg, checkpoint = prepare(args)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    detector = build_detector(cfg, checkpoint, get_device())
    arms = build_arms(cfg, detector)
    loaders = build_loaders(cfg)
    classes = tuple(loaders['plain'].dataset.metainfo['classes'])
    metrics = build_metrics(cfg, arms, classes)
    times, counts = run_arms(arms, loaders, metrics)
    results: dict = dict.fromkeys(ARMS)
    for name, found in summarise_times(times, counts).items():
        results[name] = dict(precisions(metrics[name]), **found)
    results['settings'] = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        data_root=cfg.get('data_root'),
        views=args.views,
        images=sum(counts),
        batch_size=cfg.test_dataloader.get('batch_size', 1),
        options=[roi_tta_options(cfg, m) for m in ('views', 'pyramid')],
        device=get_device(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
    )
    return results


def table(results: dict) -> str:
    """The Markdown table of the contestants, and the settings below it."""
    masks = ['mask_AP'] if 'mask_AP' in results['plain'] else []
    columns = [*STATS, *masks, 'time_to_plain', 'time_to_det_tta']
    heads = [*STATS, *masks, 'time / plain', 'time / DetTTAModel']
    rows = []
    for name, title in ARMS.items():
        found = results[name] or {}
        seconds = found.get('seconds_per_image')
        shown = None if seconds is None else f'{seconds:.3f}'
        rows.append([title, *(found.get(column) for column in columns), shown])
    settings = ', '.join(f'{k} {v}' for k, v in results['settings'].items())
    text = markdown_table(['test', *heads, 's per image'], rows, digits=2)
    return f'{text}\n\nSettings: {settings}.'


def main() -> None:
    """Measure, write and print."""
    args = parse_args()
    with user_errors(args.debug):
        results = measure(args)
        text = table(results)
        print(text)
        write_results(args.out, results, text)


if __name__ == '__main__':
    main()
