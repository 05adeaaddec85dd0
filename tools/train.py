#!/usr/bin/env python
"""Train from a config: pretraining and detection alike.

On one process or several:

    python tools/train.py configs/retod/CONFIG.py
    bash tools/dist_train.sh configs/fgl_faster_rcnn/CONFIG.py 8
"""

from __future__ import annotations

import argparse
import os

# Waiting threads sleep: spinning ones are slow on cores that are busy. Read
# by OpenMP as torch is imported; dist_train.sh sets the same.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

import mmfgl  # noqa: F401  (its registry nodes)
from mmfgl.engine.guarded_run import guarded_run
from mmfgl.engine.hooks import RunRecordHook, StrictLoadHook
from mmfgl.utils.audit import audit_config
from mmfgl.utils.config_checks import check_data_root, check_launcher
from mmfgl.utils.hand_over import find_pretraining
from mmfgl.utils.launch import (
    add_common_arguments,
    load_config,
    set_amp,
    set_auto_scale_lr,
)
from mmfgl.utils.leaving import leaving
from mmfgl.utils.user_errors import user_errors
from mmfgl.utils.weights import check_weights, use_safe_loading


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Pretrain with ReToD, or train a detector'
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and checkpoints (default: work_dirs/<config>)',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: float16 on a GPU, bfloat16 on a CPU; the same '
        'as amp = True in the config',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the total batch size',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='resume from this checkpoint, or, without a value, from the '
        'latest one in the work dir',
    )
    add_common_arguments(parser)
    return parser.parse_args()


def train(args: argparse.Namespace) -> None:
    """Check the config, then train."""
    check_launcher(args.launcher)
    use_safe_loading(args.trust_checkpoint)
    cfg = load_config(args)
    if args.amp or cfg.get('amp', False):
        set_amp(cfg)
    if args.auto_scale_lr:
        set_auto_scale_lr(cfg)
    with guarded_run(cfg, args.resume) as start:
        check_data_root(cfg)
        audit_config(cfg)
        find_pretraining(cfg)
        check_weights(cfg)
        start(StrictLoadHook(), RunRecordHook())


def main() -> None:
    """Train, see the module's docstring."""
    args = parse_args()
    with leaving(), user_errors(args.debug):
        train(args)


if __name__ == '__main__':
    main()
