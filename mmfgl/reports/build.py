"""Make the report of any runs."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmfgl.reports.analysis import add_analysis
from mmfgl.reports.document import Report
from mmfgl.reports.plots import svg_curves
from mmfgl.reports.runs import Run, Runs, Test, Training, find_runs
from mmfgl.reports.settings import add_settings
from mmfgl.reports.transfers import add_transfer
from mmfgl.utils.checked_runner import leaf_datasets

#: Names of metrics in the report and in MMDetection.
METRICS = {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75'}
METRICS |= {f'AP{size}': f'mAP_{size}' for size in 'sml'}


def report(
    dirs: str | Path | Sequence[str | Path], out: str | Path | None = None
) -> Path:
    """Write ``report.html`` and ``report.md`` about runs.

    The page needs no other file and no network: tables, curves, errors by
    type and class, pictures of detections beside the truth, settings and
    commands. Several runs are compared.

    Args:
        dirs: One folder or several, each a work dir of ``tools/train.py`` or
            ``tools/test.py``, an output of ``mmfgl run`` or of
            ``tools/benchmarks/transfer.py``, or a folder of such.
        out: Folder of the report (default: the folder that is reported on,
            ``work_dirs/report`` for several).

    Returns:
        The path of ``report.html``.

    Raises:
        FileNotFoundError: A folder holds no run, or a file that a run names
            is not there; says what to do.
        ValueError: Predictions and annotations do not belong together.
    """
    dirs = [dirs] if isinstance(dirs, str | Path) else list(dirs)
    if out is None:
        out = dirs[0] if len(dirs) == 1 else 'work_dirs/report'
    runs = find_runs(dirs)
    names = [Path(folder).resolve().name for folder in dirs]
    page = Report(f'Report: {", ".join(names)}', _intro(runs))
    for name, results in runs.transfers.items():
        add_transfer(page, name, results)
    _add_summary(page, runs)
    _add_curves(page, runs.trainings)
    for tests in same_data(runs.tests):
        add_analysis(page, tests, _best_tests(tests))
    add_settings(page, runs)
    return page.write(out)


def same_data(tests: Iterable[Test]) -> list[list[Test]]:
    """Group tests by the images, objects and classes that they are of."""
    groups: dict[tuple, list[Test]] = {}
    for test in tests:
        results = test.results
        objects = (
            (image.gt_boxes.tobytes(), image.gt_labels.tobytes())
            for image in results.images
        )
        key = (*results.paths, None, *results.classes, None, *objects)
        groups.setdefault(key, []).append(test)
    return list(groups.values())


def _best_tests(tests: Sequence[Test], most: int = 3) -> list[Test]:
    """The best test of each checkpoint, in their order, as many as fit."""
    best: dict[str, Test] = {}
    for test in tests:
        other = best.setdefault(test.checkpoint, test)
        if (test.metric('mAP') or 0) > (other.metric('mAP') or 0):
            best[test.checkpoint] = test
    ranked = sorted(best.values(), key=lambda t: -(t.metric('mAP') or 0))
    return [test for test in tests if test in ranked[:most]]


def _intro(runs: Runs) -> str:
    """What was tested, and on what, in a sentence."""
    parts = []
    for tests in same_data(runs.tests):
        results = tests[0].results
        objects = sum(len(image.gt_boxes) for image in results.images)
        parts.append(
            f'{_count(len(tests), "test")} on '
            f'{_count(len(results.images), "image")} with '
            f'{_count(objects, "object")} of '
            f'{_count(len(results.classes), "class", "classes")}'
        )
    if runs.trainings:
        parts.append(_count(len(runs.trainings), 'training'))
    if runs.transfers:
        parts.append(_count(len(runs.transfers), 'benchmark'))
    return f'{"; ".join(parts)}.'


def _count(number: int, one: str, more: str = '') -> str:
    return f'{number} {one if number == 1 else more or one + "s"}'


def _add_summary(page: Report, runs: Runs) -> None:
    """One row a test, and a training that no test belongs to.

    Rows on different data are in tables of their own: they tell nothing about
    each other.
    """
    tables: dict[str, list[dict]] = {}  # by annotation file
    tested: list[Run] = []
    for number, tests in enumerate(same_data(runs.tests)):
        data = _annotations(tests[0].results.config, 'test_dataloader')
        rows = [_test_row(test, runs) for test in tests]
        tested += filter(None, map(runs.training_of, tests))
        # one file may have had other labels before
        tables[data if data not in tables else f'{data} ({number})'] = rows
    for training in runs.trainings:
        if training.detects and not (training.arm or training in tested):
            curve = training.ap_curve()
            row = {'run': training.name, 'test': 'val, while training'}
            row['AP'] = curve[-1][1] if curve else None
            data = _annotations(training.config, 'val_dataloader')
            tables.setdefault(data, []).append({**row, **_length(training)})
    if not tables:
        return
    best = dict.fromkeys(METRICS, max) | {'ms/image': min}
    page.section('Results')
    for data, rows in tables.items():
        caption = (
            'Box AP of COCO in percent; ms/image is the time of the test, min '
            'that of the training.'
        )
        if len(tables) > 1:
            caption = f'On {data}. {caption}'
        page.add_table(rows, caption, best=best)
    if not runs.tests:
        page.add_text(
            'No test among these runs: for errors, confusions and pictures, '
            'run tools/test.py CONFIG CHECKPOINT --work-dir DIR and give DIR '
            'to mmfgl report, too.'
        )


def _annotations(config: Config, loader: str) -> str:
    """Annotation files of a loader."""
    return ', '.join(
        osp.normpath(
            osp.join(data.get('data_root') or '', data.get('ann_file') or '')
        )
        for data in leaf_datasets(config[loader].dataset)
    )


def _test_row(test: Test, runs: Runs) -> dict[str, Any]:
    seconds = test.results.metrics.get('seconds_per_image')
    return {
        'run': test.name,
        'test': 'TTA' if test.tta else 'plain',
        **{name: test.metric(key) for name, key in METRICS.items()},
        'ms/image': 1000 * seconds if seconds else None,
        **_length(runs.training_of(test)),
    }


def _length(training: Training | None) -> dict[str, str | float | None]:
    """How long a training took."""
    if training is None:
        return {}
    seconds = training.seconds
    return {
        'trained': training.steps,
        'min': seconds / 60 if seconds else None,
    }


def _add_curves(page: Report, trainings: Sequence[Training]) -> None:
    """Val AP, and losses: those of pretraining are of another kind."""
    plots = []
    detectors = [training for training in trainings if training.detects]
    curves = {training.name: training.ap_curve() for training in detectors}
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if curves:
        loops = {
            bool(training.config.get('train_cfg', {}).get('max_epochs'))
            for training in detectors
            if training.name in curves
        }
        unit = {(True,): 'epoch', (False,): 'iteration'}
        xlabel = unit.get(tuple(loops), 'epoch or iteration')
        plots.append(('Box AP on val', svg_curves(curves, xlabel, 'AP, %')))
    kinds = {
        'Loss of training': detectors,
        'Loss of pretraining': [t for t in trainings if not t.detects],
    }
    for caption, members in kinds.items():
        curves = {training.name: training.curve() for training in members}
        if curves:
            svg = svg_curves(curves, 'iteration', 'loss')
            only = '' if len(curves) > 1 else f': {next(iter(curves))}'
            plots.append((f'{caption}{only}', svg))
    if plots:
        page.section('Curves')
        page.add_plots(plots)
