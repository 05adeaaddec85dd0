#!/usr/bin/env python
"""Throughput of ReToD on two ranks over one rank with two threads, on a CPU.

    python tools/benchmarks/ranks.py --out benchmarks/ranks

Both arms pretrain on the same number of images a step and take turns. Wall
time is that of the slower rank, CPU time the sum of the ranks; what the
processes take to start and the first steps are not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from lib.output import write_results
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, DefaultScope
from torch import distributed

from mmfgl.reports import markdown_table
from mmfgl.testing import region_batch
from mmfgl.testing.configs import read_config
from mmfgl.utils.user_errors import add_debug_argument, user_errors

ARMS = dict(one_rank=(1, 2), two_ranks=(2, 1))  # ranks, threads of each
WARM_UP = 2  # steps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    name = 'configs/retod/retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py'
    add('--config', default=name, help='pretraining config')
    add('--batch', type=int, default=8, help='images a step, of all ranks')
    add('--crop', type=int, default=160, help='side of a view, in pixels')
    add('--steps', type=int, default=5, help='steps a round')
    add('--rounds', type=int, default=3, help='rounds of each arm')
    add('--out', required=True, help='folder of results.json and results.md')
    # of a child: rank, ranks, threads, folder of the rendezvous
    add('--child', nargs=4, help=argparse.SUPPRESS)
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    if args.batch % 2 or min(args.batch, args.steps, args.rounds) < 1:
        parser.error('--batch is even; --steps and --rounds are at least 1')
    return args


def work(args: argparse.Namespace) -> dict[str, float]:
    """Train as one of the ranks; seconds of wall and of CPU a step."""
    rank, ranks, threads = map(int, args.child[:3])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    cfg = read_config(args.config)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).train()
    wrapped = model
    if ranks > 1:
        store = f'file://{args.child[3]}/store'
        distributed.init_process_group(
            'gloo', init_method=store, rank=rank, world_size=ranks
        )
        wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    batch = region_batch(
        num_images=args.batch // ranks,
        size=args.crop,
        num_objects=4,
        num_labels=cfg.get('num_clusters', 1),
        seed=rank,
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4)
    for step in range(WARM_UP + args.steps):
        if step == WARM_UP:
            start = time.perf_counter(), time.process_time()
        data = model.data_preprocessor(batch, True)
        loss, _ = model.parse_losses(wrapped(**data, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    return dict(wall=wall / args.steps, cpu=cpu / args.steps)


def run_round(args: argparse.Namespace, arm: str) -> dict[str, float]:
    """Start the ranks of an arm; seconds of wall and of CPU a step."""
    ranks, threads = ARMS[arm]
    own = [f'--config={args.config}', f'--batch={args.batch}']
    own += [f'--crop={args.crop}', f'--steps={args.steps}']
    own += [f'--out={args.out}']
    with tempfile.TemporaryDirectory() as folder:
        children = [
            subprocess.Popen(
                [sys.executable, __file__, *own, '--child']
                + [str(rank), str(ranks), str(threads), folder],
                stdout=subprocess.PIPE,
                env=os.environ | dict(OMP_NUM_THREADS=str(threads)),
            )
            for rank in range(ranks)
        ]
        outputs = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise RuntimeError(f'a rank of {arm} has failed, see above')
    found = [json.loads(output.splitlines()[-1]) for output in outputs]
    return dict(
        wall=max(seen['wall'] for seen in found),
        cpu=sum(seen['cpu'] for seen in found),
    )


def measure(args: argparse.Namespace) -> None:
    """Let the arms take turns; write and print."""
    rounds: dict[str, list[dict]] = {arm: [] for arm in ARMS}
    for index in range(args.rounds):
        for arm in list(ARMS) if index % 2 == 0 else list(ARMS)[::-1]:
            rounds[arm].append(run_round(args, arm))
    medians = {
        arm: {
            kind: statistics.median(seen[kind] for seen in found)
            for kind in ('wall', 'cpu')
        }
        for arm, found in rounds.items()
    }
    rows = [
        [arm, args.batch / seen['wall'], args.batch / seen['cpu']]
        for arm, seen in medians.items()
    ]
    ratios = [two / one for one, two in zip(rows[0][1:], rows[1][1:])]
    names = ('config', 'batch', 'crop', 'steps', 'rounds')
    results = dict(
        settings={name: getattr(args, name) for name in names},
        torch=torch.__version__,
        cores=os.cpu_count(),
        rounds=rounds,
        seconds_per_step=medians,
        throughput_ratio=ratios[0],
        throughput_ratio_per_cpu_second=ratios[1],
    )
    header = ['arm', 'images/s', 'images/s of CPU time']
    table = markdown_table(header, [*rows, ['ratio', *ratios]], digits=2)
    write_results(args.out, results, table)
    print(table)


def main(argv: list[str] | None = None) -> None:
    """Measure, see the module's docstring."""
    args = parse_args(argv)
    with user_errors(args.debug):
        if args.child:
            print(json.dumps(work(args)))
        else:
            Path(args.out).mkdir(parents=True, exist_ok=True)
            measure(args)


if __name__ == '__main__':
    main()
