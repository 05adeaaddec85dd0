#!/usr/bin/env python
"""Inject faults into real, tiny runs, and write down what happens.

    python tools/benchmarks/faults.py --out DIR [options of pytest]

Runs ``pytest -m faults``: each test is a fault in a run of tools/train.py or
tools/test.py on a CPU; then runs that save all the time are killed (SIGKILL),
at random moments and in the middle of a save by turns, and resumed. Writes
DIR/results.json, DIR/results.md and DIR/pytest.xml.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from mmfgl.utils.user_errors import add_debug_argument, user_errors

ROOT = Path(__file__).resolve().parents[2]


def read_results(path: Path) -> dict:
    """Results of a report that pytest has written (``--junitxml``).

    Returns:
        ``rows``, each with ``fault``, ``expected``, ``seen`` and ``ok``;
        ``kills``, how many ``survived``, and ``kills_while_saving``.
    """
    rows, kills = [], []
    for case in ElementTree.parse(path).iter('testcase'):
        notes = {p.get('name'): p.get('value') for p in case.iter('property')}
        ok = case.find('failure') is None and case.find('error') is None
        if 'kill' in notes:
            kills.append((ok, notes['kill'] == 'while saving'))
            continue
        name = case.get('name')
        detail = f' ({name.split("[")[1]}' if '[' in name else ''
        row = dict(
            fault=notes.get('fault', name) + detail.replace(']', ')'),
            expected=notes.get('expected', ''),
            seen=notes.get('seen', 'the test broke: see pytest.xml'),
            ok=ok,
        )
        rows.append(row)
    return dict(
        rows=rows,
        kills=len(kills),
        survived=sum(ok for ok, _ in kills),
        kills_while_saving=sum(saving for _, saving in kills),
    )


def markdown(results: dict) -> str:
    """Table of the results."""
    lines = ['| fault | expected | seen | ok |', '|---|---|---|---|']
    for row in results['rows']:
        cells = [row['fault'], row['expected'], row['seen']]
        cells = [cell.replace('|', '/').replace('\n', ' ') for cell in cells]
        cells.append('yes' if row['ok'] else 'no')
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines) + (
        f'\n\n{results["survived"]} of {results["kills"]} runs that were '
        f'killed ({results["kills_while_saving"]} of them while writing a '
        'checkpoint) went on from their last checkpoint.\n\n'
        f'Settings: {results["settings"]}.\n'
    )


def main() -> None:
    """Run the tests and write the results."""
    parser = argparse.ArgumentParser(
        description='Inject faults into tiny runs'
    )
    parser.add_argument('--out', required=True, help='folder of the results')
    add_debug_argument(parser)
    args, options = parser.parse_known_args()
    with user_errors(args.debug):
        measure(Path(args.out).resolve(), options)


def measure(out: Path, options: list[str]) -> None:
    """Run the tests, with further options of pytest; write the results."""
    out.mkdir(parents=True, exist_ok=True)
    report, start = out / 'pytest.xml', time.monotonic()
    report.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-m', 'faults']
        # the older family knows properties of a test
        + ['-o', 'junit_family=xunit1', f'--junitxml={report}']
        + ['tests/test_faults', *options],
        cwd=ROOT,
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'},
    )
    results = read_results(report)
    results['settings'] = dict(seconds=round(time.monotonic() - start))
    (out / 'results.json').write_text(json.dumps(results, indent=2))
    (out / 'results.md').write_text(markdown(results))
    print(markdown(results))


if __name__ == '__main__':
    main()
