"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import os
import os.path as osp
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mmfgl.utils.processes import is_alive, owner_tag

SUFFIX = '.mmfgl-tmp'
_ABANDONED = 3600  # seconds without a write, of an owner on another host


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file for writing that never exists in part.

    The content goes to a temporary file of the same folder and to the disk;
    when the block ends without an error, it takes its name, replacing an
    older file, in one step. Missing folders are made.

    Raises:
        OSError: The content could not be written; an older file is intact.
    """
    path = osp.abspath(path)
    folder, name = osp.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = osp.join(folder, f'.{name}.{owner_tag()}{SUFFIX}')
    try:
        with open(temporary, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        if not isinstance(error, OSError):
            raise
        raise OSError(
            error.errno,
            f'{path} could not be written ({error.strerror}); what was there '
            'before is untouched',
        ) from error
    # the new name itself: Windows and some network file systems can not
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomically(content: bytes, path: str | Path) -> None:
    """Write a whole file; see :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(content)


def remove_leftovers(folder: str | Path) -> list[str]:
    """Remove the temporary files of dead processes; return their names.

    The name of a file tells its owner. One on another host, or before a
    reboot, counts as dead when its file was not written to for an hour.
    There are none if there is no such folder.
    """
    if not osp.isdir(folder):
        return []
    removed = []
    for name in os.listdir(folder):
        if not name.endswith(SUFFIX):
            continue
        path = osp.join(folder, name)
        alive = is_alive(name.removesuffix(SUFFIX).rpartition('.')[2])
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            if alive is None:
                alive = time.time() - osp.getmtime(path) < _ABANDONED
            if not alive:
                os.remove(path)
                removed.append(name)
    return removed
