"""The result files that every benchmark writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmfgl.utils.atomic_files import write_atomically


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON: complete, or not at all."""
    write_atomically((json.dumps(content, indent=2) + '\n').encode(), path)


def write_results(
    folder: str | Path, results: Mapping[str, Any], table: str
) -> None:
    """Write ``results.json``, and the Markdown table as ``results.md``."""
    write_json(Path(folder) / 'results.json', results)
    write_atomically(f'{table}\n'.encode(), Path(folder) / 'results.md')
