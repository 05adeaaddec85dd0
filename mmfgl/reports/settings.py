"""Sections on how runs were made: settings, versions, commands, configs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from mmfgl.reports.document import Report
from mmfgl.reports.runs import Run, Runs, Test
from mmfgl.reports.transfers import benchmark_settings


def add_settings(page: Report, runs: Runs) -> None:
    """Add what differs between runs, their commands, versions and configs."""
    for name, results in runs.transfers.items():
        page.section(f'Settings of {name}')
        page.add_table(benchmark_settings(results))
    made: list[Run] = [*runs.trainings, *runs.tests]
    if not made:
        return
    page.section('Settings')
    # tests of a training here have its settings
    others = [test for test in runs.tests if not runs.training_of(test)]
    rows = [
        {'run': run.name, **_settings(_config(run))}
        for run in (*runs.trainings, *others)
    ]
    page.add_table(rows)
    _add_versions(page, made)
    commands = [
        f'# {run.name}\n{run.record["command"]}' for run in made if run.record
    ]
    if commands:
        page.section('Commands')
        page.add_code('\n'.join(commands))
    page.section('Configs')
    for run in made:
        page.add_code(_config(run).pretty_text, summary=run.name)


def _config(run: Run) -> Config:
    return run.results.config if isinstance(run, Test) else run.config


def _settings(cfg: Config) -> dict[str, Any]:
    """The settings that a reader asks for first."""
    model = cfg.get('model', {})
    model = model.get('module', model)  # of test-time augmentation
    detector = model.get('detector', model)
    loader = cfg.get('train_dataloader') or {}
    optimizer = cfg.get('optim_wrapper', {}).get('optimizer', {})
    backbone = detector.get('backbone', {})
    return {
        'model': str(model.get('type', '–')),
        'backbone': backbone.get('model_name') or backbone.get('type') or '–',
        'batch size': loader.get('batch_size'),
        'optimizer': str(optimizer.get('type', '–')),
        'learning rate': f'{optimizer.get("lr", "–")}',
        'seed': cfg.get('randomness', {}).get('seed'),
        'weights': str(cfg.get('load_from') or '–'),
    }


def _add_versions(page: Report, runs: Sequence[Run]) -> None:
    """Machine and software; runs of the same share a column."""
    columns: dict[str, dict] = {}
    for run in runs:
        versions = run.record.get('versions')
        if versions is None:
            continue
        for name, other in list(columns.items()):
            if other == versions:
                columns[f'{name}, {run.name}'] = columns.pop(name)
                break
        else:
            columns[run.name] = versions
    if not columns:
        return
    if len(columns) == 1:
        columns = {'all runs': next(iter(columns.values()))}
    page.section('Machine and versions')
    names = dict.fromkeys(key for part in columns.values() for key in part)
    page.add_table(
        [
            {'what': key, **{c: v.get(key, '–') for c, v in columns.items()}}
            for key in names
        ]
    )
