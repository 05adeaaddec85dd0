"""The result files that every benchmark writes."""

import contextlib
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.machine import machine_settings

ROOT = Path(__file__).resolve().parents[3]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON: complete, or not at all."""
    write_atomically((json.dumps(content, indent=2) + '\n').encode(), path)


def write_results(
    folder: str | Path, results: Mapping[str, Any], table: str
) -> None:
    """Write ``results.json``, and the Markdown table as ``results.md``.

    Writes ``run.json`` besides: see :func:`run_record`.
    """
    write_json(Path(folder) / 'results.json', results)
    write_json(Path(folder) / 'run.json', run_record())
    write_atomically(f'{table}\n'.encode(), Path(folder) / 'results.md')


def run_record() -> dict[str, Any]:
    """What tools/analysis_tools/benchmark_table.py must know of a run.

    Returns:
        ``command``, ``commit`` (with ``-dirty`` behind it if tracked files
        were changed, ``None`` outside of a clone or without git) and
        ``machine``.
    """
    commit = ''
    with contextlib.suppress(FileNotFoundError):
        commit = subprocess.run(
            ['git', 'describe', '--always', '--dirty', '--exclude=*'],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    return dict(
        command=f'python {shlex.join(sys.argv)}',
        commit=commit or None,
        machine=machine_settings(),
    )
