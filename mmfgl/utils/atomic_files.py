"""Files that are either complete or not there."""

from __future__ import annotations

import os
import os.path as osp
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.fileio.backends import backends

SUFFIX = '.mmfgl-tmp'
BACKEND = 'mmfgl.atomic'


def write_atomically(content: bytes, path: str | Path) -> None:
    """Write a file so that it never exists in part.

    The content goes to a temporary file of the same folder and to the disk;
    then the file takes its name, replacing an older one, in one step.

    Args:
        content: The content.
        path: The file.

    Raises:
        OSError: The content could not be written; an older file is intact.
    """
    path = osp.abspath(path)
    folder, name = osp.split(path)
    os.makedirs(folder, exist_ok=True)
    temporary = osp.join(folder, f'.{name}.{os.getpid()}{SUFFIX}')
    try:
        with open(temporary, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if osp.exists(temporary):
            os.remove(temporary)
        raise OSError(
            error.errno,
            f'{path} could not be written ({error.strerror}). Earlier '
            'checkpoints are untouched: make room or choose another '
            '--work-dir, then go on with --resume',
        ) from error
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Bring the new name itself to the disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # not on Windows
        return
    try:
        os.fsync(handle)
    except OSError:  # not on every network file system
        pass
    finally:
        os.close(handle)


def remove_leftovers(folder: str | Path) -> list[str]:
    """Remove the temporary files that a killed process has left behind.

    Args:
        folder: The folder, or one that does not exist.

    Returns:
        Names of the removed files.
    """
    if not osp.isdir(folder):
        return []
    names = [name for name in os.listdir(folder) if name.endswith(SUFFIX)]
    for name in names:
        os.remove(osp.join(folder, name))
    return names


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, writing atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file; see :func:`write_atomically`.

        Args:
            obj: The bytes.
            filepath: The file.
        """
        write_atomically(obj, filepath)


def use_atomic_backend() -> dict:
    """Make the backend known to MMEngine, under a name of its own.

    Returns:
        ``backend_args`` that choose it.
    """
    if BACKEND not in backends:
        register_backend(BACKEND, AtomicLocalBackend)
    return dict(backend=BACKEND)
