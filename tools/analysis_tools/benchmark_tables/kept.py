"""Kept results: one JSON file a run of a benchmark, and its schema.

======== ==============================================================
key      value
======== ==============================================================
kind     the script of tools/benchmarks/ that wrote it, without .py, or the
         subcommand of ``mmfgl``
command  what was called, with paths of the data set and ``DIR`` alone
commits  the commits it ran at, several if seeds were added later
machine  cores, GPUs, versions; ``{}`` in files older than this schema
settings all that decides the numbers
metrics  the numbers, of :data:`METRICS` by kind
======== ==============================================================
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / 'benchmarks' / 'results'
KEYS = ('kind', 'command', 'commits', 'machine', 'settings', 'metrics')
SCORES = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
# kind -> keys that its metrics have at least, of each entry where the
# entries have free names (arms, cases); of speed any part will do
METRICS = {
    'transfer': (*SCORES, 'images_seen', 'pretrain_seconds'),
    'tta': ('AP', 'seconds_per_image'),
    'syncs': ('waits', 'uploads'),
    'speed': (),
    'pipeline': ('pipeline_ratio',),
    'faults': ('rows', 'kills', 'survived'),
    'ranks': ('throughput_ratio', 'throughput_ratio_per_cpu_second'),
    'run': ('plain', 'tta', 'iters'),
    'export': ('images', 'torch', 'onnx', 'matches', 'box', 'score'),
}
NESTED = ('transfer', 'tta', 'syncs', 'run')
SUBCOMMANDS = ('run', 'export')  # of mmfgl
SETTINGS = {
    'transfer': ('data', 'init', 'detector', 'finetune_iters'),
    'tta': ('config', 'views'),
    'run': ('photos', 'minutes', 'iters'),
    'export': ('config', 'model'),
}
_COMMIT = re.compile(r'[0-9a-f]{7,40}')
_PATH = re.compile(r"""(^|[\s='",])(~|/|[A-Za-z]:\\)[\w.~-]""")


@dataclass(frozen=True)
class Kept:
    """One kept file."""

    name: str  # of the file, without .json
    kind: str
    command: str
    commits: list[str]
    machine: dict[str, str]
    settings: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def device(self) -> str:
        """The GPUs that the run had, or 'cpu'."""
        found = self.machine.get('GPUs', 'none')
        used = self.settings.get('device') != 'cpu' and found != 'none'
        return found if used else 'cpu'


def read_kept(folder: Path = RESULTS) -> list[Kept]:
    """Read all kept results of a folder, by name.

    Raises:
        ValueError: A file does not fit the schema, or two hold one run.
    """
    kept = []
    for path in sorted(folder.glob('*.json')):
        try:
            content = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise ValueError(f'{path} is no JSON: {error}') from None
        check(content, path)
        kept.append(Kept(path.stem, **content))
    _check_once(kept)
    return kept


def check(content: Any, path: Path) -> None:
    """Check one file's content against the schema.

    Raises:
        ValueError: It does not fit; names the file and the key.
    """
    for problem in _problems(content):
        raise ValueError(f'{path}: {problem}')


def _problems(content: Any) -> Iterator[str]:
    if not isinstance(content, dict) or set(content) != set(KEYS):
        found = sorted(content) if isinstance(content, dict) else content
        yield f'needs the keys {", ".join(KEYS)} and no other, has {found}'
        return
    kind, commits = content['kind'], content['commits']
    if kind not in METRICS:
        yield f'kind is {kind!r}, known are {", ".join(METRICS)}'
        return
    script = f'tools/benchmarks/{kind}.py'
    if kind in SUBCOMMANDS:
        script = f'mmfgl {kind}'
    if script not in str(content['command']):
        yield f'command must be a call of {script}: {content["command"]!r}'
    if not (isinstance(commits, list) and commits):
        yield f'commits must be a list of hashes, got {commits!r}'
    elif not all(_COMMIT.fullmatch(str(commit)) for commit in commits):
        yield (
            f'commits must be hashes of 7 to 40 digits, got {commits}: '
            'commit the code, then run again'
        )
    for key in ('machine', 'settings', 'metrics'):
        if not isinstance(content[key], dict):
            yield f'{key} must be an object, got {content[key]!r}'
            return
    for text in _texts(content):
        if _PATH.search(text):
            yield f'holds a path of a machine: {text!r}'
    for key in SETTINGS.get(kind, ()):
        if key not in content['settings']:
            yield f'settings.{key} is missing'
    yield from _metric_problems(kind, content['metrics'])


def _metric_problems(kind: str, metrics: Mapping[str, Any]) -> Iterator[str]:
    if not metrics:
        yield 'metrics is empty'
    entries = metrics if kind in NESTED else {'': metrics}
    for name, entry in entries.items():
        place = f'metrics.{name}' if name else 'metrics'
        if entry is None and kind == 'tta':
            continue  # a contestant that does not apply
        for key in METRICS[kind]:
            if not isinstance(entry, dict) or key not in entry:
                yield f'{place}.{key} is missing'
                return
        if kind != 'transfer':
            continue
        lengths = {len(entry[key]) for key in SCORES}
        if len(lengths) != 1 or 0 in lengths:
            yield f'{place} needs every metric of every seed, at least one'
    for value in _leaves(metrics):
        if isinstance(value, float) and not math.isfinite(value):
            yield f'metrics holds {value}'


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        yield value
        return
    for part in value:
        yield from _leaves(part)


def _texts(value: Any) -> Iterator[str]:
    yield from (leaf for leaf in _leaves(value) if isinstance(leaf, str))


def _check_once(kept: list[Kept]) -> None:
    """No run may count twice.

    Raises:
        ValueError: The seeds of an arm in one file begin as in another.
    """
    seen: dict[tuple, str] = {}
    for run in kept:
        if run.kind != 'transfer':
            continue
        for name, arm in run.metrics.items():
            first = tuple(arm[key][0] for key in SCORES)
            time = (arm.get('finetune_seconds_per_iter') or [None])[0]
            key = (run.settings['data'], *first, time)
            other = seen.setdefault(key, run.name)
            if other != run.name:
                raise ValueError(
                    f'{run.name}.json and {other}.json hold the same run '
                    f'({name}): delete one, or give --add its --name'
                )
