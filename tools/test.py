#!/usr/bin/env python
"""Evaluate a checkpoint on the test data of its config.

On one process or several:

    python tools/test.py CONFIG.py CHECKPOINT.pth [--tta [--views flip]]
    bash tools/dist_test.sh CONFIG.py CHECKPOINT.pth 8

Leaves predictions.bbox.json, metrics.json, config.py and run.json in the work
dir, work_dirs/CONFIG/test if not told otherwise, of which `mmfgl report
WORK_DIR` makes a page.
"""

from __future__ import annotations

import argparse
import os.path as osp

from mmdet.evaluation import DumpDetResults

import mmfgl  # noqa: F401  (its registry nodes)
from mmfgl.engine.hooks import RunRecordHook
from mmfgl.engine.hooks.start_summary_hook import StartSummaryHook
from mmfgl.utils.audit import audit_config
from mmfgl.utils.config_checks import check_data_root, check_launcher
from mmfgl.utils.launch import (
    add_common_arguments,
    build_runner,
    load_config,
)
from mmfgl.utils.leaving import leaving
from mmfgl.utils.tta_views import VIEWS, set_tta
from mmfgl.utils.user_errors import user_errors
from mmfgl.utils.weights import (
    StrictCheckpointHook,
    check_checkpoint,
    check_opened_weights,
    use_safe_loading,
)
from mmfgl.visualization import show_predictions


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Test a detector')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and metrics (default: test, with --tta test-tta, '
        'in work_dirs/<config>)',
    )
    parser.add_argument('--out', help='write predictions to this .pkl file')
    parser.add_argument(
        '--show', action='store_true', help='show pictures of predictions'
    )
    parser.add_argument(
        '--show-dir',
        help='save pictures of predictions in work_dir/<time>/SHOW_DIR',
    )
    parser.add_argument(
        '--wait-time', type=float, default=2, help='seconds per picture shown'
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='test-time augmentation: tta_model and tta_pipeline of the '
        'config, or --views',
    )
    parser.add_argument(
        '--views',
        choices=VIEWS,
        help='of --tta: a base of configs/_base_/tta/ at the test scale of '
        'the config',
    )
    add_common_arguments(parser)
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error('--out must end in .pkl or .pickle')
    if args.views and not args.tta:
        parser.error('--views is of --tta, which is not given')
    return args


def test(args: argparse.Namespace) -> None:
    """Check config and checkpoint, then test."""
    check_launcher(args.launcher)
    use_safe_loading(args.trust_checkpoint)
    check_checkpoint(args.checkpoint)
    cfg = load_config(args, ['test_dataloader'])
    if cfg.get('test_dataloader') is None:
        raise ValueError(
            f'{args.config} has no test_dataloader: a pretraining config is '
            'tested by training a detector from its checkpoint.'
        )
    if args.work_dir is None:  # what the training has left there stays
        name = 'test-tta' if args.tta else 'test'
        cfg.work_dir = osp.join(cfg.work_dir, name)
    check_opened_weights(cfg.model)
    check_data_root(cfg, ['test_dataloader'])
    audit_config(cfg, loaders=['test_dataloader'])
    cfg.load_from, cfg.resume = args.checkpoint, False
    if args.show or args.show_dir:
        show_predictions(cfg, args)
    if args.tta:
        set_tta(cfg, args.views)
    hooks = StrictCheckpointHook(), RunRecordHook(), StartSummaryHook()
    runner = build_runner(cfg, *hooks)
    if args.out:
        dump = DumpDetResults(out_file_path=args.out)
        runner.test_evaluator.metrics.append(dump)
    runner.test()


def main() -> None:
    """Test, see the module's docstring."""
    args = parse_args()
    with leaving(), user_errors(args.debug):
        test(args)


if __name__ == '__main__':
    main()
