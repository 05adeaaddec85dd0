"""Makes kept results from the folder that a benchmark wrote."""

import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_tables.kept import METRICS, check

HEAD = 'python tools/benchmarks/'
# Folders of the clone, whatever stands before them.
_INSIDE = re.compile(r'/(configs|checkpoints|tools|work_dirs|data)/')
_HASH = re.compile(r'[0-9a-f]{40}$')


def add_run(
    out: Path,
    folder: Path,
    *,
    name: str | None = None,
    command: str | None = None,
    commit: str | None = None,
) -> list[Path]:
    """Keep the results of a finished run; replaces those of its name.

    The command is that of ``run.json`` or of ``results.md``, with all arms
    that the results have, though one call need not have run them all. The
    commits are those in the checkpoints that the run has left, else that of
    ``run.json``.

    Args:
        out: The ``--out`` of a benchmark or of ``mmfgl run``, or the
            ``.check.json`` of ``mmfgl export --check``.
        folder: Where to write.
        name: Of the file, without .json; ``KIND_FOLDER`` of the run if None.
        command: In place of the one that is found.
        commit: In place of those that are found.

    Returns:
        The written files: one, or one a data set.

    Raises:
        FileNotFoundError: There is no results.json.
        ValueError: Command or commit cannot be told, or the results do not
            fit the schema.
    """
    path = out if out.suffix == '.json' else out / 'results.json'
    if not path.is_file():
        raise FileNotFoundError(
            f'{path} does not exist: is {out} the --out of a finished '
            'benchmark?'
        )
    results = json.loads(path.read_text(encoding='utf-8'))
    record, path = {}, out / 'run.json'
    if out.is_file():
        record = results
    elif path.is_file():
        record = json.loads(path.read_text('utf-8'))
    command = command or record.get('command') or _shown_command(out)
    if command is None:
        raise ValueError(f'{out} does not say its command: give --command')
    kind = Path(shlex.split(command)[1]).stem
    if kind not in METRICS:
        raise ValueError(f'{out} was made by {kind}, not by a benchmark')
    command = clean_command(command)
    name = name or f'{kind}_{out.resolve().name.split(".")[0]}'
    parts = {name: (out, results)}
    if 'data_sets' in results:
        parts = {
            f'{name}_{data}': (out / data, part)
            for data, part in results['data_sets'].items()
        }
    contents = {}
    if kind == 'transfer':
        arms = [arm for arm, values in results['arms'].items() if values['AP']]
        command = _with_all_arms(command, arms)
    for part, (where, found) in parts.items():
        commits = [commit] if commit else commits_of(where)
        if not commits and record.get('commit'):
            commits = [record['commit']]
        if not commits:
            raise ValueError(
                f'{where} does not say at which commit it ran: give --commit'
            )
        content = dict(
            kind=kind,
            command=command,
            commits=commits,
            **_content(kind, found, record.get('machine', {})),
        )
        contents[folder / f'{part}.json'] = content
    for target, content in contents.items():
        _keep_renamed(content, target)
        check(content, target)
    folder.mkdir(parents=True, exist_ok=True)
    for target, content in contents.items():
        new = target.with_suffix('.tmp')
        new.write_text(json.dumps(content, indent=1) + '\n', encoding='utf-8')
        os.replace(new, target)
    return list(contents)


def _keep_renamed(content: dict[str, Any], target: Path) -> None:
    """Take over what the arms of the replaced file are called today."""
    old = {}
    if target.is_file():
        old = json.loads(target.read_text(encoding='utf-8'))['settings']
    if 'renamed' in old:
        content['settings']['renamed'] = old['renamed']


def _content(
    kind: str, results: Mapping[str, Any], machine: Mapping[str, str]
) -> dict[str, Any]:
    """Machine, settings and metrics of the content of a results.json."""
    settings = _clean(dict(results.get('settings', {})))
    machine = settings.pop('machine', None) or dict(machine)
    settings.pop('data_root', None)
    metrics = {k: v for k, v in results.items() if k != 'settings'}
    if kind == 'transfer':
        # an arm that was cut off before its first seed has no numbers
        metrics = {k: v for k, v in results['arms'].items() if v['AP']}
    elif kind == 'run':
        iters = results['iters']
        metrics = {
            k: v | {'iters': iters[k]} for k, v in metrics['arms'].items()
        }
        settings['pretrain_iters'] = iters['pretrain']
    elif kind == 'export':
        metrics = results['metrics']
    elif kind == 'faults':
        keys = ('fault', 'expected', 'ok')
        rows = [{key: row[key] for key in keys} for row in metrics['rows']]
        metrics = dict(metrics, rows=rows)  # what was seen holds paths
    return dict(machine=machine, settings=settings, metrics=metrics)


def _clean(value: Any) -> Any:
    """Without the part of a path that belongs to one machine."""
    if isinstance(value, dict):
        return {key: _clean(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_clean(part) for part in value]
    return clean_path(value) if isinstance(value, str) else value


def clean_path(text: str) -> str:
    """A path below the clone, or its last name; other text as it is."""
    if not text.startswith(('/', '~')):
        return text
    found = list(_INSIDE.finditer(text))
    return text[found[0].start() + 1 :] if found else Path(text).name


def clean_command(command: str) -> str:
    """A command as anybody would call it: ``--out DIR``, no machine paths."""
    words = []
    for word in shlex.split(command):
        option, equals, value = word.partition('=')
        if not word.startswith('-'):
            option, equals, value = '', '', word
        elif not equals:
            words.append(word)
            continue
        last = option or (words[-1] if words else '')
        if last == '--out':
            value = 'DIR'
        elif last == '--data-root':
            value = ','.join(map(_clean_data, value.split(',')))
        else:
            value = ','.join(map(_clean_pair, value.split(',')))
        words.append(f'{option}{equals}{value}')
    if words[0] == 'mmfgl':
        return shlex.join(words)
    script = Path(words[1]).name
    return HEAD + shlex.join([script, *words[2:]])


def _with_all_arms(command: str, arms: Iterable[str]) -> str:
    """Add to ``--arms`` those that earlier calls put into the ``--out``."""
    words = shlex.split(command)
    for number, word in enumerate(words):
        option, equals, value = word.partition('=')
        if option != '--arms':
            continue
        where = number if equals else number + 1
        named = (value if equals else words[where]).split(',')
        known = {name.partition('=')[0] for name in named}
        # --detector both makes two rows of an arm
        new = [arm for arm in arms if arm.removesuffix('-fgl') not in known]
        words[where] = f'{option}=' * bool(equals) + ','.join(named + new)
    return shlex.join(words)


def _clean_data(path: str) -> str:
    relative = clean_path(path)
    return relative if '/' in relative else f'data/{relative}'


def _clean_pair(text: str) -> str:
    """A path, or NAME=PATH."""
    name, equals, path = text.rpartition('=')
    return f'{name}{equals}{clean_path(path)}'


def _shown_command(out: Path) -> str | None:
    """The command in results.md, if it has one."""
    path = out / 'results.md'
    text = path.read_text(encoding='utf-8') if path.is_file() else ''
    found = re.search(rf'^{re.escape(HEAD)}.*$', text, re.MULTILINE)
    return found[0] if found else None


def commits_of(out: Path) -> list[str]:
    """Commits that MMEngine wrote into the checkpoints of a run, if any."""
    paths: Sequence[Path] = sorted(out.glob('**/iter_*.pth'))
    if not paths:
        return []
    from mmfgl.utils.weights import safe_load

    commits = {}
    for path in paths:
        meta = safe_load(str(path)).get('meta', {})
        found = _HASH.search(meta.get('mmengine_version', ''))
        if found is None:
            raise ValueError(
                f'{path} was made outside of a clone, so it names no commit: '
                'give --commit'
            )
        commits[found[0][:7]] = True
    return list(commits)
