"""Reads the runs of transfer.py into results.json."""

import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmfgl.reports import read_curve
from mmfgl.utils.machine import machine_settings

METRICS = {'AP': 'bbox_mAP', 'AP50': 'bbox_mAP_50', 'AP75': 'bbox_mAP_75'}
METRICS |= {f'AP{size}': f'bbox_mAP_{size}' for size in 'sml'}
_LOADED = re.compile(r'[\d.]+ % of the declared modules loaded \([^)]*\)')


def collect(
    out: Path, rows: Iterable, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Read all finished runs into the content of ``results.json``.

    An arm has one value a finished seed. Arms of earlier calls with the same
    folder are kept; ``rows`` are those of this call.
    """
    path = out / 'results.json'
    arms = json.loads(path.read_text())['arms'] if path.is_file() else {}
    for row in rows:
        arm = _read_arm(out, row.name, row.pretraining)
        if arm['AP'] or row.name in arms:
            arms[row.name] = arm
    settings = dict(settings, arms=list(arms), machine=machine_settings())
    return dict(arms=arms, settings=settings)


def _read_arm(out: Path, name: str, pretraining: str) -> dict[str, Any]:
    """Everything about one row of the table."""
    spent = dict(seconds=0.0, iters=0, images=0)
    search = 0.0
    # all of its rounds, the last one without a number
    for part in (*_rounds_before(out, pretraining), pretraining):
        search += state_of(out, f'proposals_{part}').get('seconds', 0.0)
        if part and state_of(out, f'pretrain_{part}').get('done'):
            file = pretrain_dir(out, part) / 'budget.json'
            for key, value in json.loads(file.read_text()).items():
                spent[key] += value
    runs: list[Path] = []
    while state_of(out, f'finetune_{name}_seed{len(runs)}').get('done'):
        runs.append(finetune_dir(out, name, len(runs)))
    metrics = [read_detection(run) for run in runs]
    log = out / 'steps' / f'finetune_{name}_seed0.log'
    loaded = _LOADED.findall(log.read_text()) if log.is_file() else []
    return dict(
        **{key: [values[key] for values in metrics] for key in METRICS},
        pretrain_seconds=round(spent['seconds'] + search, 1),
        images_seen=spent['images'],
        pretraining=pretraining or None,
        pretrain_iters=spent['iters'],
        proposal_seconds=round(search, 1),
        loaded=loaded[-1] if loaded else None,
        finetune_seconds_per_iter=[seconds_per_iter(run) for run in runs],
    )


def _rounds_before(out: Path, pretraining: str) -> list[str]:
    """Names of the rounds of a pretraining but for the last."""
    found = (out / 'steps').glob(f'pretrain_{pretraining}-round*.json')
    return [path.stem.removeprefix('pretrain_') for path in found]


def read_detection(work_dir: Path) -> dict[str, float | None]:
    """Metrics of a finished fine-tuning run in percent.

    ``None`` where the val set has no object of that size; 0 of a detector
    that finds nothing at all, for which MMDetection logs no metric.
    """
    values = {}
    for name, key in METRICS.items():
        curve = read_curve(work_dir, f'coco/{key}')
        value = curve[-1][1] if curve else 0.0
        good = not math.isnan(value) and value >= 0
        values[name] = round(100 * value, 2) if good else None
    return values


def seconds_per_iter(work_dir: Path) -> float | None:
    """Median seconds of an iteration, data loading included."""
    times = [value for _, value in read_curve(work_dir, 'time')]
    return round(statistics.median(times), 3) if times else None


def combine(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Results over several data sets, by their names.

    The keys are those of one data set: of every arm that was run on all of
    them the mean metrics of each seed, and the total seconds and images of
    the pretraining; besides, ``data_sets`` with all the parts.
    """
    results = list(parts.values())
    arms = {}
    for name in results[0]['arms']:
        if not all(name in part['arms'] for part in results):
            continue
        each = [part['arms'][name] for part in results]
        arms[name] = {
            metric: [
                _mean(values)
                for values in zip(*(arm[metric] for arm in each), strict=False)
            ]
            for metric in METRICS
        }
        for key in ('pretrain_seconds', 'images_seen'):
            arms[name][key] = sum(arm[key] for arm in each)
    settings = dict(results[0]['settings'], data=list(parts), arms=list(arms))
    for key in ('data_root', 'classes'):
        settings[key] = [part['settings'][key] for part in results]
    for key in ('train_images', 'labelled_images', 'val_images'):
        settings[key] = sum(part['settings'][key] for part in results)
    return dict(arms=arms, settings=settings, data_sets=dict(parts))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.mean(known), 2) if known else None


def state_of(out: Path, step: str) -> dict:
    """What :class:`StepRunner` has written of a step, ``{}`` if nothing."""
    path = out / 'steps' / f'{step}.json'
    return json.loads(path.read_text()) if path.is_file() else {}


def pretrain_dir(out: Path, name: str) -> Path:
    """Work dir of a pretraining run."""
    return out / 'pretrain' / name


def finetune_dir(out: Path, row: str, seed: int) -> Path:
    """Work dir of a fine-tuning run."""
    return out / 'finetune' / row / f'seed{seed}'
