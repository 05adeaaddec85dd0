#!/usr/bin/env python
"""Compare pretrainings by the detector that they lead to, at equal time.

Pretrains every arm on the train images (no label, no val image) with the same
backbone, crop size, precision and wall-clock budget, fine-tunes the same
detector from each for several seeds, evaluates on val and writes a table,
results.json, curves and a report into --out:

    python tools/benchmarks/transfer.py --data-root data/aquarium \
        --init imagenet --arms none,mocov2,byol,densecl,retod \
        --pretrain-minutes 10 --finetune-iters 1000 --seeds 3 --out DIR

An arm is `none`, the name of a config in configs/transfer/ or configs/retod/
(see transfer_arms.py), or NAME=CONFIG.py. Every run is a process of its own;
those already done are skipped, so that an interrupted benchmark goes on where
it was, and arms and seeds can be added to the same --out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from transfer_arms import ROOT, Arm
from transfer_plan import Plan
from transfer_report import write_report
from transfer_results import collect, save
from transfer_runs import Runs

from mmfgl.utils.steps import Step, StepRunner


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--data-root', required=True, help='train/ val/ annotations/')
    add('--init', choices=['random', 'imagenet'], required=True)
    add('--arms', default='none,mocov2,byol,densecl,retod')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--pretrain-minutes', type=float, default=10)
    budget.add_argument(
        '--pretrain-iters', type=int, help='iterations in place of minutes'
    )
    add('--finetune-iters', type=int, default=1000, help='of 8 images')
    add('--seeds', type=int, default=3, help='number of fine-tuning seeds')
    add('--labels', type=int, help='fine-tune with so many labelled images')
    add(
        '--detector',
        choices=['faster-rcnn', 'fgl', 'both'],
        default='faster-rcnn',
        help='both: Faster R-CNN for all arms, FGL for none and retod* '
        'besides, as arms NAME-fgl',
    )
    add('--view-size', type=int, default=224, help='of the crops, in pixels')
    add('--threads', type=int, default=os.cpu_count(), help='of torch')
    add('--workers', type=int, default=2, help='that load pretraining data')
    add('--amp', action='store_true', help='mixed precision everywhere')
    add('--redo', default='', help='arms to run anew, e.g. retod,byol')
    add('--dry-run', action='store_true', help='print the plan and stop')
    add('--out', required=True, help='folder of the results')
    args = parser.parse_args(argv)
    for name in ('finetune_iters', 'seeds', 'view_size', 'threads'):
        if getattr(args, name) < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    if args.pretrain_iters is not None:
        args.pretrain_minutes = None
    if (args.pretrain_iters or args.pretrain_minutes) <= 0:
        parser.error('the pretraining budget must be positive')
    args.arms = [Arm.parse(text) for text in args.arms.split(',')]
    args.redo = [name for name in args.redo.split(',') if name]
    return args


def saving(plan: Plan) -> Iterator[Step]:
    """The runs of a plan, with ``results.json`` brought up after each."""
    for step in Runs(plan):
        yield step
        results = collect(plan.out, plan.rows, plan.settings)
        save(plan.out / 'results.json', results)


def main(argv: list[str] | None = None) -> None:
    """Run what is not done yet, then write the report."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    # mmfgl's tools are found from everywhere, checkpoints/ from the clone
    args.out = Path(args.out).resolve()
    try:
        plan = Plan(args)
        print(plan.describe(), flush=True)
        if args.dry_run:
            return
        plan.start()
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'transfer: {error}')
    os.chdir(ROOT)
    try:
        StepRunner(plan.out).run(saving(plan), plan.num_steps)
    except RuntimeError as error:
        sys.exit(f'transfer: {error}')
    results = collect(plan.out, plan.rows, plan.settings)
    command = 'python tools/benchmarks/transfer.py ' + shlex.join(argv)
    print('\n' + write_report(plan.out, results, command))
    print(f'Report: {args.out / "report.html"}')


if __name__ == '__main__':
    main()
