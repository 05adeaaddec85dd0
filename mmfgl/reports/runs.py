"""Find and read the runs that a report is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmfgl.evaluation import TestResults, read_test_results
from mmfgl.utils.resume import POINTER

_SCALARS = '*/vis_data/scalars.json'


def read_curve(
    work_dir: str | Path, key: str = 'loss'
) -> list[tuple[int, float]]:
    """(step, value) pairs that a training run has logged, in order.

    When it was resumed, the later part counts where its parts overlap.
    ``key`` is e.g. ``'loss'`` or ``'coco/bbox_mAP'``.

    Raises:
        FileNotFoundError: The run has logged nothing.
    """
    points = {
        record['step']: record[key]
        for record in read_log(work_dir)
        if key in record
    }
    return sorted(points.items())


def read_log(work_dir: str | Path) -> list[dict]:
    """All records that a training run has logged, the oldest first.

    The parts of one that was resumed are joined. Runs before it in the same
    folder do not count, nor does a last line that was cut off.

    Raises:
        FileNotFoundError: The run has logged nothing.
        ValueError: A log is damaged.
    """
    files = sorted(Path(work_dir).glob(_SCALARS))
    if not files:
        raise FileNotFoundError(
            f'No */vis_data/scalars.json in {work_dir}: nothing was trained '
            'there, or the visualizer of the config has no LocalVisBackend.'
        )
    records: list[dict] = []
    for file in files:
        if _starts_anew(file.with_name('config.py')):
            records.clear()
        records += _read_lines(file)
    return records


def _starts_anew(config: Path) -> bool:
    """Whether a run with this logged config goes on from no other."""
    if not config.is_file():
        return False
    text = config.read_text(encoding='utf-8')
    return re.search(r'^resume = (?!False|None)', text, re.M) is None


def _read_lines(path: Path) -> Iterator[dict]:
    """Records of a log; a full disk may have cut off its last line."""
    lines = path.read_text(encoding='utf-8').splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line)
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f'{path}, line {number}: {error}') from error


class Run:
    """A training or a test, with the name it has in the report."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    @cached_property
    def record(self) -> dict[str, Any]:
        """Its command and versions; empty if it kept none."""
        path = self.folder / 'run.json'
        return json.loads(path.read_text()) if path.is_file() else {}


class Training(Run):
    """A work dir of ``tools/train.py``; ``arm``: one of a benchmark's."""

    arm = False

    @cached_property
    def config(self) -> Config:
        """Its config; empty if another program has trained."""
        own = self.folder / 'config.py'
        logged = sorted(self.folder.glob('*/vis_data/config.py'))
        files = [own] if own.is_file() else logged
        return Config.fromfile(files[-1]) if files else Config()

    @property
    def detects(self) -> bool:
        """Whether it trains a detector: else its loss is another one."""
        return self.config.get('val_dataloader') is not None

    @property
    def steps(self) -> str:
        """Its length in words, as far as its last checkpoint tells.

        Of a budget of time, what it came to.
        """
        path = self.folder / 'budget.json'
        if path.is_file():
            return f'{json.loads(path.read_text())["iters"]} iterations'
        loop = self.config.get('train_cfg', {})
        pointer = self.folder / POINTER
        saved = pointer.read_text() if pointer.is_file() else ''
        for key, unit in (('iters', 'iterations'), ('epochs', 'epochs')):
            if not (whole := loop.get(f'max_{key}')):
                continue
            done = re.search(rf'{key[:-1]}_(\d+)\.pth$', saved.strip())
            if done and int(done[1]) < whole:
                return f'{done[1]} of {whole} {unit}'
            return f'{whole} {unit}'
        return '–'

    @cached_property
    def seconds(self) -> float | None:
        """Time of its iterations, from what it logged."""
        # a validation logs its own time under the same step
        times = {
            record['step']: record.get('time', 0.0)
            for record in read_log(self.folder)
            if 'loss' in record
        }
        last = total = 0.0
        for step, seconds in sorted(times.items()):
            total += seconds * (step - last)
            last = step
        return total or None

    def curve(self, key: str = 'loss') -> list[tuple[int, float]]:
        """Points of a curve, see :func:`read_curve`."""
        return read_curve(self.folder, key)

    def ap_curve(self) -> list[tuple[int, float]]:
        """Box AP on val in percent over iterations or epochs."""
        keys = {key for record in read_log(self.folder) for key in record}
        names = sorted(key for key in keys if key.endswith('bbox_mAP'))
        points = self.curve(names[0]) if names else []
        return [(step, 100 * value) for step, value in points]


class Test(Run):
    """A work dir of ``tools/test.py``."""

    __test__ = False

    @cached_property
    def results(self) -> TestResults:
        """Its predictions beside the truth."""
        return read_test_results(self.folder)

    def metric(self, name: str) -> float | None:
        """A box metric in percent, ``None`` if it was not measured."""
        for key, value in self.results.metrics.items():
            if key.rpartition('/')[2] == f'bbox_{name}':
                return None if value < 0 or value != value else 100 * value
        return None

    @property
    def tta(self) -> bool:
        """Whether it ran with test-time augmentation."""
        return 'module' in self.results.config.model

    @property
    def checkpoint(self) -> str:
        """The checkpoint that was tested."""
        return str(self.results.config.load_from)


@dataclass
class Runs:
    """All that the folders hold."""

    trainings: list[Training] = field(default_factory=list)
    tests: list[Test] = field(default_factory=list)
    #: Name and ``results.json`` of each output of transfer.py.
    transfers: dict[str, dict] = field(default_factory=dict)

    def training_of(self, test: Test) -> Training | None:
        """The training that made a test's checkpoint."""
        folder = Path(test.checkpoint).resolve().parent
        for training in self.trainings:
            if training.folder.resolve() == folder:
                return training
        return None


def find_runs(dirs: Sequence[str | Path]) -> Runs:
    """Sort folders into trainings, tests and transfer benchmarks.

    A folder is one itself, or has some below: a run folder of ``mmfgl run``,
    or any folder of work dirs or of such folders.

    Raises:
        FileNotFoundError: A folder is not there, or has no run.
    """
    runs = Runs()
    for folder in map(Path, dirs):
        label = '' if len(dirs) == 1 else _short(folder, dirs)
        if not folder.is_dir():
            raise FileNotFoundError(f'{folder} is not there.')
        if not _find(runs, folder, label, levels=2):
            raise FileNotFoundError(
                f'{folder} holds no run. Give a work dir of '
                'tools/train.py (*/vis_data/scalars.json) or of '
                'tools/test.py (metrics.json and predictions.bbox.json), '
                'an output of mmfgl run or tools/benchmarks/transfer.py, '
                'or a folder of such.'
            )
    return runs


def _find(runs: Runs, folder: Path, label: str, levels: int) -> bool:
    """Add what a folder is, or else what is some levels below it, if any."""
    if _is_transfer(folder):
        _add_transfer(runs, folder, label)
        return True
    name = label or folder.resolve().name
    if _add(runs, folder, name):
        for child in sorted(folder.glob('*/metrics.json')):
            _add(runs, child.parent, f'{name}/{child.parent.name}')
        return True
    found = [
        _find(runs, child, f'{label}/{child.name}'.lstrip('/'), levels - 1)
        for child in (sorted(folder.iterdir(), key=_age) if levels else ())
        if child.is_dir()
    ]
    return any(found)


def _short(folder: Path, dirs: Iterable[str | Path]) -> str:
    """The least end of a path that tells it from the others."""
    own = folder.resolve().parts
    others = [Path(d).resolve().parts for d in dirs]
    others = [parts for parts in others if parts != own]
    length = 1
    while length < len(own) and any(
        parts[-length:] == own[-length:] for parts in others
    ):
        length += 1
    return '/'.join(own[-length:])


def _age(folder: Path) -> tuple[str, Path]:
    """Start of the first run in a work dir, to sort by."""
    starts = [path.name for path in folder.glob('[0-9]*_[0-9]*')]
    return min(starts, default=''), folder


def _is_transfer(folder: Path) -> bool:
    path = folder / 'results.json'
    if not path.is_file():
        return False
    content = json.loads(path.read_text())
    arms = content.get('arms') if isinstance(content, dict) else None
    if not isinstance(arms, dict) or not arms:
        return False
    parts = arms.values()
    return all(isinstance(x, dict) and 'pretrain_seconds' in x for x in parts)


def _add(runs: Runs, folder: Path, name: str) -> bool:
    """Add a work dir, if it is one."""
    if (folder / 'metrics.json').is_file():
        runs.tests.append(Test(name, folder))
        return True
    training = Training(name, folder)
    if any(folder.glob(_SCALARS)) and training.curve():
        runs.trainings.append(training)
        return True
    return False


def _add_transfer(runs: Runs, folder: Path, label: str) -> None:
    """Add the benchmark, and of each arm the trainings of seed 0."""
    name = label or folder.resolve().name
    runs.transfers[name] = json.loads((folder / 'results.json').read_text())
    prefix = f'{label}/' if label else ''
    first = len(runs.trainings)
    for path in sorted(folder.glob('pretrain/*')):
        _add(runs, path, f'{prefix}{path.name} (pretraining)')
    for path in sorted(folder.glob('finetune/*/seed0')):
        _add(runs, path, f'{prefix}{path.parent.name}')
    for training in runs.trainings[first:]:
        training.arm = True
