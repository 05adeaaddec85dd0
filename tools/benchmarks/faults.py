#!/usr/bin/env python
"""Inject faults into real, tiny runs, and write down what happens.

    python tools/benchmarks/faults.py --out DIR

Each row is one fault in a run of tools/train.py or tools/test.py on a CPU:
what should happen, what was seen, and whether they agree. Then runs that save
all the time are killed (SIGKILL), at random moments and in the middle of a
save by turns, and resumed. Writes
DIR/results.json and DIR/results.md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ['CUDA_VISIBLE_DEVICES'] = ''  # before torch looks

import mmdet.datasets  # noqa: F401  (imported once, for all children)
import mmdet.models  # noqa: F401
import mmpretrain.datasets  # noqa: F401
import torch
from faults_cases import CASES
from faults_kills import kill_and_resume
from faults_runs import Bench

from mmfgl.testing import tiny_coco


def run_cases(folder: Path, names: list[str]) -> list[dict]:
    """Run the faults one by one.

    Args:
        folder: Folder of the runs.
        names: Which faults; all if empty.

    Returns:
        Rows ``fault``, ``expected``, ``seen`` and ``ok``.
    """
    rows = []
    for case in CASES:
        if names and case.__name__ not in names:
            continue
        place = folder / case.__name__
        place.mkdir()
        fault, expected = (case.__doc__ or '').strip().split(': ', 1)
        try:
            seen, ok = case(Bench(place), tiny_coco(place / 'data'))
        except Exception as error:
            seen, ok = f'{type(error).__name__}: {error}', False
        row = dict(
            fault=fault,
            expected=' '.join(expected.split()).rstrip('.'),
            seen=seen,
            ok=bool(ok),
        )
        print(f'{"ok  " if ok else "MISS"} {fault}: {seen}', flush=True)
        rows.append(row)
    return rows


def markdown(results: dict) -> str:
    """Table of the results.

    Args:
        results: Content of ``results.json``.

    Returns:
        Markdown.
    """
    lines = ['| fault | expected | seen | ok |', '|---|---|---|---|']
    for row in results['rows']:
        cells = [row['fault'], row['expected'], row['seen']]
        cells = [cell.replace('|', '/').replace('\n', ' ') for cell in cells]
        lines.append(
            f'| {" | ".join(cells)} | {"yes" if row["ok"] else "no"} |'
        )
    lines.append(
        f'\n{results["survived"]} of {results["kills"]} runs that were killed '
        f'({results["kills_while_saving"]} of them while '
        'writing a checkpoint) went on from their last checkpoint.'
    )
    settings = ', '.join(f'{k} {v}' for k, v in results['settings'].items())
    return '\n'.join([*lines, '', f'Settings: {settings}.', ''])


def main() -> None:
    """Run all faults and write the results."""
    parser = argparse.ArgumentParser(
        description='Inject faults into tiny runs'
    )
    parser.add_argument('--out', required=True, help='folder of the results')
    parser.add_argument(
        '--kills', type=int, default=10, help='number of runs to kill'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    parser.add_argument(
        '--only', nargs='*', default=[], help='names of functions of cases'
    )
    args = parser.parse_args()
    # children are forked, which threads do not survive
    torch.set_num_threads(1)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = run_cases(Path(folder), args.only)
        kills = kill_and_resume(Path(folder), args.kills, args.seed)
    results = dict(
        rows=rows,
        **kills,
        settings=dict(
            seed=args.seed,
            torch=torch.__version__,
            seconds=round(time.monotonic() - start),
        ),
    )
    (out / 'results.json').write_text(json.dumps(results, indent=2))
    (out / 'results.md').write_text(markdown(results))
    print(markdown(results))


if __name__ == '__main__':
    main()
