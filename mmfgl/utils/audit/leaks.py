"""Images that two data sets share."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from mmfgl.utils.audit.headers import THREADS, Header


def shared_images(
    first: dict[str, Header], second: dict[str, Header]
) -> list[tuple[str, str]]:
    """Pairs of files, one of each set, that hold the same bytes.

    Only files of equal length and size in pixels are read.

    Args:
        first: Headers by path.
        second: Headers by path.
    """
    groups = defaultdict(lambda: ([], []))
    for side, headers in enumerate((first, second)):
        for path, header in headers.items():
            if header.width:
                key = (header.bytes, header.width, header.height)
                groups[key][side].append(path)
    candidates = [group for group in groups.values() if all(group)]
    paths = {path for group in candidates for side in group for path in side}
    with ThreadPoolExecutor(THREADS) as pool:
        digests = dict(zip(paths, pool.map(_digest, paths), strict=True))
    pairs = []
    for ours, theirs in candidates:
        seen = {digests[path]: path for path in ours}
        pairs += _pairs(seen, digests, theirs)
    return sorted(pairs)


def _pairs(
    seen: dict[bytes | None, str],
    digests: dict[str, bytes | None],
    paths: Iterable[str],
) -> Iterable[tuple[str, str]]:
    for path in paths:
        if digests[path] is not None and digests[path] in seen:
            yield seen[digests[path]], path


def _digest(path: str) -> bytes | None:
    try:
        with open(path, 'rb') as file:
            return hashlib.blake2b(file.read()).digest()
    except OSError:
        return None
