"""Finds in kept results of transfer.py what may be compared, and compares.

Runs are compared that share data, labels, start, detector, fine-tuning and
the budget of pretraining. The arm ``none`` has no budget: it is the baseline
of every budget.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmark_tables.kept import SCORES, Kept

FINETUNING = ('data', 'train_images', 'val_images', 'init', 'labels')
FINETUNING += ('shots', 'finetune_iters', 'amp')
BUDGET = ('pretrain_minutes', 'pretrain_iters', 'view_size', 'optimizer')
STARTS = {'imagenet': 'ImageNet', 'random': 'random'}
DETECTORS = {'faster-rcnn': 'Faster R-CNN', 'fgl': 'FGL'}


def renamed(run: Kept) -> dict[str, str]:
    """Arms of a file whose config has another name today -> that name."""
    return run.settings.get('renamed', {})


@dataclass
class Arm:
    """All pretrainings of one arm in one comparison."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    files: list[Kept] = field(default_factory=list)

    def of(self, metric: str) -> list[float]:
        """The values of all fine-tuning runs."""
        return [value for run in self.runs for value in known(run[metric])]

    @property
    def num_runs(self) -> int:
        """Number of fine-tuning runs."""
        return sum(len(run['AP']) for run in self.runs)

    def by_seed(self, metric: str) -> dict[int, float]:
        """The mean over pretrainings of each fine-tuning seed."""
        values: dict[int, list[float]] = {}
        for run in self.runs:
            for seed, value in enumerate(run[metric]):
                if value is not None:
                    values.setdefault(seed, []).append(value)
        return {k: statistics.mean(v) for k, v in values.items()}


@dataclass
class Comparison:
    """Arms that may be compared, by name; ``none`` first, then by name."""

    detector: str
    settings: dict[str, Any]
    budget: dict[str, Any] | None  # None: nothing but ``none``
    arms: dict[str, Arm]

    def difference(
        self, arm: str, baseline: str, metric: str = 'AP'
    ) -> float | None:
        """Mean difference over the seeds that both arms have, or None."""
        if arm == baseline or not {arm, baseline} <= set(self.arms):
            return None
        one = self.arms[arm].by_seed(metric)
        other = self.arms[baseline].by_seed(metric)
        both = one.keys() & other.keys()
        if not both:
            return None
        return statistics.mean(one[seed] - other[seed] for seed in both)

    @property
    def setting(self) -> str:
        """Data, start and labels in words."""
        text = f'{self.settings["data"]}, {STARTS[self.settings["init"]]}'
        return f'{text}, {self.labels}' if self.labels != 'all' else text

    @property
    def labels(self) -> str:
        """Which labels were used, in words."""
        if self.settings['labels']:
            return f'{self.settings["labels"]} labelled images'
        if self.settings['shots']:
            return f'{self.settings["shots"]} shots'
        return 'all'

    @property
    def equal(self) -> str:
        """What is equal for the arms, in words."""
        if self.budget is None:
            return 'none'
        minutes = self.budget['pretrain_minutes']
        if minutes:
            return f'equal minutes: {minutes:g} ({self.budget["machine"]})'
        return f'equal iterations: {self.budget["pretrain_iters"]}'


def compare(kept: Iterable[Kept]) -> list[Comparison]:
    """All comparisons, those of one setting next to each other."""
    groups: dict[tuple, Comparison] = {}
    unpretrained: dict[tuple, Arm] = {}
    for run in by_detector(run for run in kept if run.kind == 'transfer'):
        detector = run.settings['detector']
        for name, values in run.metrics.items():
            arm = renamed(run).get(name, name)
            settings = {k: run.settings.get(k) for k in FINETUNING}
            start = (detector, *settings.values())
            if arm == 'none':
                _put(unpretrained.setdefault(start, Arm()), values, run)
                groups.setdefault(
                    (start, None), Comparison(detector, settings, None, {})
                )
                continue
            budget = {k: run.settings.get(k) for k in BUDGET}
            if budget['pretrain_minutes']:
                # minutes are worth what the machine does in them
                budget['threads'] = run.settings.get('threads')
                budget['machine'] = run.device
            group = groups.setdefault(
                (start, tuple(budget.items())),
                Comparison(detector, settings, budget, {}),
            )
            _put(group.arms.setdefault(arm, Arm()), values, run)
    with_budget = {start for start, budget in groups if budget is not None}
    found = []
    for (start, budget), group in groups.items():
        if budget is None and start in with_budget:
            continue  # shown as the baseline of the others
        baseline = unpretrained.get(start)
        first = {'none': baseline} if baseline else {}
        group.arms = first | dict(sorted(group.arms.items()))
        found.append(group)
    return sorted(found, key=_order)


def _order(group: Comparison) -> tuple:
    """Settings by name, iterations before minutes, short before long."""
    budget = group.budget or {}
    lengths = [budget.get(key) or 0 for key in BUDGET[:2]]
    lengths.append(group.settings['finetune_iters'])
    return group.detector, group.setting, *lengths, group.equal


def by_detector(runs: Iterable[Kept]) -> list[Kept]:
    """Parts a run of ``--detector both``, which names FGL's rows ARM-fgl."""
    parts = []
    for run in runs:
        if run.settings.get('detector') != 'both':
            parts.append(run)
            continue
        arms: dict[str, dict[str, Any]] = {'faster-rcnn': {}, 'fgl': {}}
        for name, values in run.metrics.items():
            detector = 'fgl' if name.endswith('-fgl') else 'faster-rcnn'
            arms[detector][name.removesuffix('-fgl')] = values
        parts += [
            replace(run, settings=run.settings | dict(detector=d), metrics=m)
            for d, m in arms.items()
            if m
        ]
    return parts


def _put(arm: Arm, values: dict[str, Any], run: Kept) -> None:
    arm.runs.append({k: values[k] for k in (*SCORES, 'images_seen')})
    arm.files.append(run)


def known(values: Iterable[float | None]) -> list[float]:
    """Without those that are missing: a size that a val set does not have."""
    return [value for value in values if value is not None]


def spread(values: Sequence[float]) -> str:
    """Mean and, of two or more, sample standard deviation, as text."""
    if not values:
        return '–'
    text = f'{statistics.mean(values):.1f}'
    if len(values) > 1:
        text += f' ± {statistics.stdev(values):.1f}'
    return text
