#!/usr/bin/env python
"""Compare pretrainings by the detector that they lead to, at equal time.

Pretrains every arm on the train images (no label, no val image) with the same
backbone, crop size, precision and wall-clock budget, fine-tunes the same
detector from each for several seeds, evaluates on val and writes a table,
results.json and curves into --out:

    python tools/benchmarks/transfer.py --data-root data/aquarium \
        --init imagenet --arms none,distill,objectness,retod \
        --pretrain-minutes 10 --finetune-iters 1000 --seeds 3 --out DIR

An arm is `none`, the name of a config in configs/transfer/ (see
lib/transfer_arms.py), NAME=CONFIG.py, or `lightly` (see lightly.py). Several
data sets, DIR1,DIR2, each get a folder in --out, and the table has their means
besides. Every run is a process of its own; those already done are skipped, so
that an interrupted benchmark goes on where it was, and arms and seeds can be
added to the same --out.
"""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from lib.output import write_json, write_results
from lib.transfer_arms import ROOT, Arm
from lib.transfer_plan import Plan
from lib.transfer_report import draw_curves, report, table
from lib.transfer_results import collect, combine
from lib.transfer_runs import Runs

from mmfgl.utils.steps import Step, StepRunner
from mmfgl.utils.user_errors import add_debug_argument, user_errors

POSITIVE = (
    'finetune_iters',
    'seeds',
    'labels',
    'shots',
    'view_size',
    'threads',
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    folders = 'train/ val/ annotations/; DIR1,DIR2 for several data sets'
    add('--data-root', required=True, help=folders)
    add('--init', choices=['random', 'imagenet'], required=True)
    add('--arms', default='none,distill,objectness,retod')
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument('--pretrain-minutes', type=float, default=10)
    budget.add_argument('--pretrain-iters', type=int, help='in their place')
    add('--finetune-iters', type=int, default=1000, help='of 8 images')
    add('--seeds', type=int, default=3, help='number of fine-tuning seeds')
    again = 'of the pretraining: another --out repeats it'
    add('--pretrain-seed', type=int, default=0, help=again)
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument('--labels', type=int, help='labelled images, if few')
    labels.add_argument('--shots', type=int, help='labelled objects a class')
    add(
        '--detector',
        choices=['faster-rcnn', 'fgl', 'both'],
        default='faster-rcnn',
        help='both: Faster R-CNN for all arms; FGL for none and the arms that '
        'pretrain its modules besides, as arms NAME-fgl',
    )
    same = "pretrain arms of another optimizer with that of ReToD's arms"
    add('--optimizer', choices=['adamw'], help=same)
    lightly = 'Python of an environment with LightlyTrain, for arm lightly'
    add('--lightly-python', help=lightly)
    add('--view-size', type=int, default=224, help='of the crops, in pixels')
    add('--threads', type=int, default=os.cpu_count(), help='of torch')
    add('--workers', type=int, default=2, help='that load pretraining data')
    add('--amp', action='store_true', help='mixed precision everywhere')
    add('--redo', default='', help='arms to run anew, e.g. objectness,byol')
    trust = 'for checkpoints of arms: unpickle whatever they hold, any code'
    add('--trust-checkpoint', action='store_true', help=trust)
    add('--dry-run', action='store_true', help='print the plan and stop')
    add('--out', required=True, help='folder of the results')
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    for name in POSITIVE:
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f'--{name.replace("_", "-")} must be at least 1')
    for name in ('workers', 'pretrain_seed'):
        if getattr(args, name) < 0:
            option = name.replace('_', '-')
            parser.error(f'--{option} must be at least 0')
    if args.pretrain_iters is not None:
        args.pretrain_minutes = None
        budget = args.pretrain_iters
    else:
        budget = args.pretrain_minutes
    if not 0 < budget < math.inf:
        parser.error('the pretraining budget must be a number above 0')
    try:
        args.arms = [Arm.parse(text) for text in args.arms.split(',')]
    except ValueError as error:
        parser.error(f'--arms: {error}')
    args.redo = [name for name in args.redo.split(',') if name]
    # mmfgl's tools are found from everywhere, checkpoints/ from the clone
    args.out = Path(args.out).resolve()
    return args


def make_plans(args: argparse.Namespace) -> dict[str, Plan]:
    """A plan for every data set, by its name.

    Raises:
        FileNotFoundError: Data or a config is missing.
        ValueError: Data or a config does not fit.
    """
    roots = args.data_root.split(',')
    names = [Path(root).resolve().name for root in roots]
    if len(set(names)) < len(names):
        raise ValueError(f'--data-root has two data sets of one name: {names}')
    several = len(roots) > 1
    return {
        name: Plan(args, root, args.out / name if several else args.out)
        for name, root in zip(names, roots, strict=True)
    }


def saving(plan: Plan) -> Iterator[Step]:
    """The runs of a plan, with ``results.json`` brought up after each."""
    for step in Runs(plan):
        yield step
        results = collect(plan.out, plan.rows, plan.settings)
        write_json(plan.out / 'results.json', results)


def main(argv: list[str] | None = None) -> None:
    """Run what is not done yet, then write the reports."""
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    os.environ['OMP_NUM_THREADS'] = str(args.threads)
    command = 'python tools/benchmarks/transfer.py ' + shlex.join(argv)
    parts = {}
    with user_errors(args.debug):
        plans = make_plans(args)
        for plan in plans.values():
            print(plan.describe(), flush=True)
        if args.dry_run:
            return
        for plan in plans.values():
            plan.start()
        os.chdir(ROOT)
        for name, plan in plans.items():
            StepRunner(plan.out).run(saving(plan), plan.num_steps)
            parts[name] = collect(plan.out, plan.rows, plan.settings)
            text = report(parts[name], command)
            write_results(plan.out, parts[name], text)
            draw_curves(plan.out, parts[name]['arms'])
    results = parts[name]
    if len(parts) > 1:
        results = combine(parts)
        write_results(args.out, results, report(results, command))
    print(f'\n{table(results)}\n\nWritten to {args.out}')


if __name__ == '__main__':
    main()
