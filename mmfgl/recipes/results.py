"""What a run has measured: ``results.json`` and its table."""

from __future__ import annotations

import json
import math
from pathlib import Path

from mmfgl.recipes.steps import ARMS, MODES, test_name
from mmfgl.utils.atomic_files import write_atomically

FILE = 'results.json'
# Metrics and their names in metrics.json.
AP = {'AP': 'bbox_mAP', 'AP50': 'bbox_mAP_50', 'AP75': 'bbox_mAP_75'}


def collect_results(
    out: Path, settings: dict, seconds: dict[str, float]
) -> dict:
    """Read the tests of a run and write ``results.json``.

    Args:
        out: Folder of the run.
        settings: What it was asked for.
        seconds: That each step took.

    Returns:
        ``arms``: of each arm and way to test, AP, AP50 and AP75 in percent,
        seconds an image, and ``score_thr``, the score of highest F1 in
        validation; ``best``, the arm of the highest AP in the plain test;
        ``iters`` of each training; ``settings`` and ``seconds``.
    """
    from mmfgl.evaluation import read_test_results

    arms: dict[str, dict] = {}
    for arm in ARMS:
        arms[arm] = {}
        for mode in MODES:
            test = read_test_results(out / test_name(arm, mode))
            metrics = {
                name: round(100 * max(test.metrics[f'coco/{key}'], 0.0), 2)
                for name, key in AP.items()
            }
            arms[arm][mode] = dict(
                metrics,
                # down, so that the detection that defines it is shown
                score_thr=math.floor(1e4 * test.threshold.score) / 1e4,
                seconds_per_image=test.metrics['seconds_per_image'],
            )
    best = max(ARMS, key=lambda arm: arms[arm]['plain']['AP'])
    iters = {
        name: json.loads((out / name / 'budget.json').read_text())['iters']
        for name in ('pretrain', *ARMS)
    }
    seconds = {name: round(value, 1) for name, value in seconds.items()}
    results = dict(
        arms=arms,
        best=best,
        iters=iters,
        settings=settings,
        seconds=seconds,
    )
    text = json.dumps(results, indent=1)
    write_atomically(f'{text}\n'.encode(), out / FILE)
    return results


def read_results(out: Path) -> dict:
    """Read ``results.json`` of a finished run.

    Raises:
        FileNotFoundError: It is not there; says what to do.
        ValueError: It is of something else.
    """
    path = out / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f'{out} has no {FILE}: give the folder of a finished `mmfgl run` '
            '(the same command goes on with an unfinished one)'
        )
    results = json.loads(path.read_text(encoding='utf-8'))
    if not {'best', 'arms'} <= results.keys():
        raise ValueError(f'{path} is not of an `mmfgl run`')
    return results


def table(results: dict) -> str:
    """The results in a few lines of text."""
    header = ('start', 'test', *AP, 'ms an image')
    rows = [
        (
            ARMS[arm],
            {'plain': 'plain', 'tta': 'RoI TTA'}[mode],
            *(f'{row[name]:.1f}' for name in AP),
            f'{1000 * row["seconds_per_image"]:.0f}',
        )
        for arm, tests in results['arms'].items()
        for mode, row in tests.items()
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows)]
    return '\n'.join(
        '  '.join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths))
        )
        for row in (header, *rows)
    )
