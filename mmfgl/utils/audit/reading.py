"""Reading of an annotation file, with errors that say what it is instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmfgl.utils.audit.report import AuditReport
from mmfgl.utils.weights import check_file

_KINDS = {
    b'\x1f\x8b': 'is compressed: unpack it with gunzip',
    b'PK': 'is a zip archive: unpack it',
    b'version https://git-lfs': 'is a Git LFS pointer, not the file itself: '
    'run git lfs pull',
    b'<': 'is XML or HTML, not JSON: convert the annotations to COCO JSON, '
    'or download the file itself',
}


def read_coco(path: str, report: AuditReport, labels: bool = True) -> dict:
    """Read a COCO JSON, with or without byte order mark.

    Args:
        path: The file.
        report: Takes the repairs.
        labels: Whether annotations are of interest; without, the lists
            ``annotations`` and ``categories`` may be missing.

    Returns:
        A dict with the lists of dicts ``images, annotations, categories``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not in COCO format; says what it is.
    """
    check_file(path, 'annotation file named by the config')
    data = Path(path).read_bytes()
    start = data[:100].lstrip()
    if not start:
        raise ValueError(f'The annotation file {path} is empty.')
    for mark, what in _KINDS.items():
        if start.startswith(mark):
            raise ValueError(f'The annotation file {path} {what}.')
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'The annotation file {path} ({len(data)} bytes) is not JSON or '
            f'not whole: {error}'
        ) from None
    if json.detect_encoding(data) != 'utf-8':
        report.tell('repair', 'byte order mark: the file is read without it')
    return _checked(content, path, report, labels)


def _checked(
    content: Any, path: str, report: AuditReport, labels: bool
) -> dict:
    """Make sure of the three lists of dicts."""
    wanted = (
        'a COCO annotation file is one dict {"images": [...], '
        '"annotations": [...], "categories": [...]}'
    )
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise ValueError(f'{path} holds a {kind}, but {wanted}.')
    optional = ['annotations'] if labels else ['annotations', 'categories']
    for key in ('images', 'annotations', 'categories'):
        if content.get(key) is None and key in optional:
            # pycocotools does without the key 'annotations' alone
            if key in content or key == 'categories':
                report.tell('repair', f'no list {key!r}: an empty one')
            content[key] = []
        if not isinstance(content.get(key), list):
            kind = type(content.get(key)).__name__
            kind = f'of type {kind}' if key in content else 'missing'
            raise ValueError(f'{path}: {key!r} is {kind}, but {wanted}.')
        for number, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise ValueError(
                    f'{path}: entry {number} of {key!r} is {str(entry)[:80]}, '
                    'and should be a dict.'
                )
    return content
