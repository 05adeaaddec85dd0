"""Files that are copies of each other."""

from __future__ import annotations

import filecmp
import os.path as osp
from collections import defaultdict
from collections.abc import Iterable


class Copies:
    """Finds among files the one that holds the same bytes.

    Only files of equal length are read, up to the first difference. A link
    is what it leads to.

    Args:
        paths: The files; one that cannot be read is like no other.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._by_size: dict[int, list[str]] = defaultdict(list)
        for path in paths:
            self.add(path)

    def __len__(self) -> int:
        """Number of files that differ."""
        return sum(map(len, self._by_size.values()))

    def add(self, path: str) -> str:
        """Take a file in, unless a copy is there; returns which it is."""
        found = self.find(path)
        if found is None:
            self._by_size[_size(path)].append(path)
        return path if found is None else found

    def find(self, path: str) -> str | None:
        """A file with the same bytes, or ``None``."""
        size = _size(path)
        alike = self._by_size.get(size, ()) if size >= 0 else ()
        return next((other for other in alike if _same(path, other)), None)


def _size(path: str) -> int:
    try:
        return osp.getsize(path)
    except OSError:  # whoever reads it will say so
        return -1


def _same(one: str, other: str) -> bool:
    if osp.realpath(one) == osp.realpath(other):
        return True
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False
