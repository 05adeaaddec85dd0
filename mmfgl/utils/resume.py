"""Which checkpoint a run goes on from, and what becomes of the others."""

from __future__ import annotations

import logging
import os
import os.path as osp
import re
import shutil
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from mmfgl.utils.cpu_dist import RANK_VARIABLES
from mmfgl.utils.weights import (
    CheckpointError,
    DamagedCheckpointError,
    check_checkpoint,
    check_file,
)

POINTER = 'last_checkpoint'
_NUMBERED = re.compile(r'(iter|epoch)_(\d+)\.pth')
_BEST = re.compile(r'best_.+_(iter|epoch)_(\d+)\.pth')
# both count from 0: how often torchrun, or Slurm, has started this run again
_RESTARTS = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')


def launch_rank(cfg: Config) -> int:
    """Rank of this process, before there is a process group."""
    names = RANK_VARIABLES.get(cfg.get('launcher'), ('',))
    return int(os.environ.get(names[0], 0))


def set_resume(cfg: Config, resume: str | None) -> None:
    """Set up resuming, in place.

    ``resume`` is a checkpoint, ``'auto'`` for the latest whole one of
    ``cfg.work_dir`` (see :func:`find_checkpoint`), or ``None`` for what the
    config says. With ``'auto'`` and no checkpoint yet, the run starts as
    without the flag, and so keeps the ``load_from`` of a chained config.
    What torchrun or Slurm has started again resumes by itself, from the work
    dir first.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        ValueError: It is incomplete or damaged, or none of the work dir is
            whole.
    """
    first = launch_rank(cfg) == 0  # decides for all; see StrictResumeHook
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    restarted = any(int(os.environ.get(name) or 0) for name in _RESTARTS)
    path = None
    if resume == 'auto' or restarted:
        path = find_checkpoint(cfg.work_dir, check=first)
    if path is None and resume == 'auto':
        print_log(f'Nothing to resume in {cfg.work_dir}: a new run.')
        cfg.resume = False
    elif path is None and resume is not None:
        path = resume
        check = check_checkpoint if first else check_file
        check(path, 'checkpoint to resume from')
    if path is not None:
        cfg.resume = True
        cfg.load_from = path


def find_checkpoint(folder: str, check: bool = True) -> str | None:
    """The checkpoint of a work dir to go on from; ``None`` if it has none.

    It is the file of the name that ``last_checkpoint`` tells, within the
    folder, which may have been moved, or where it tells (``out_dir`` of the
    hook). If it is missing or cut off, as by a kill of a program that saves in
    place, the newest whole ``*.pth`` is taken, with a warning.

    Args:
        folder: The work dir.
        check: Whether to read the files through, to see if they are whole.

    Raises:
        DamagedCheckpointError: A file is complete, but not what was written.
        ValueError: There are files, but none is whole.
    """
    pointer, problem = _pointed(folder)
    files = checkpoints(folder)
    if pointer is not None:
        files = [pointer] + [f for f in files if not same_file(f, pointer)]
    problems = [problem] if problem and files else []
    for path in files:
        if check and not osp.isdir(path):  # as a sharded one is
            try:
                check_checkpoint(path)
            except DamagedCheckpointError:
                raise
            except CheckpointError as error:
                problems.append(str(error).partition('\n')[0])
                continue
        if problems and check:
            text = f'{"; ".join(problems)}: going on from {path}'
            print_log(text, logger='current', level=logging.WARNING)
        return path
    if files:
        raise ValueError(
            f'No checkpoint of {folder} is whole ({"; ".join(problems)}): '
            'copy one there from a backup, or start anew without --resume, '
            'which moves these files aside'
        )
    return None


def _pointed(folder: str) -> tuple[str | None, str]:
    """The file that ``last_checkpoint`` names, and what is wrong with it."""
    path = osp.join(folder, POINTER)
    if not osp.isfile(path):
        return None, f'there is no {POINTER}'
    with open(path, encoding='utf-8', errors='replace') as file:
        told = file.read().strip()
    name = re.split(r'[/\\]', told)[-1]
    for found in (osp.join(folder, name), told):
        if name and osp.exists(found):  # a sharded one is a folder
            return found, ''
    return None, f'{POINTER} names {name or "nothing"}, which is not there'


def checkpoints(folder: str) -> list[str]:
    """The ``*.pth`` files of a folder, the newest first.

    Checkpoints of iterations or epochs come first, by number, as copying
    changes times; then others, by time.
    """
    if not osp.isdir(folder):
        return []
    names = [n for n in os.listdir(folder) if n.endswith('.pth')]
    names = [n for n in names if osp.isfile(osp.join(folder, n))]
    found = {n: _NUMBERED.fullmatch(n) for n in names}
    several = len({m.group(1) for m in found.values() if m}) > 1

    def key(name: str) -> tuple:
        match = found[name]
        number = int(match.group(2)) if match and not several else 0
        time = osp.getmtime(osp.join(folder, name))
        return match is not None, number, time, name

    return [osp.join(folder, n) for n in sorted(names, key=key, reverse=True)]


def _best_after(start: str, files: list[str]) -> list[str]:
    """Best checkpoints, among files, that are newer than a numbered one."""
    begun = _NUMBERED.fullmatch(osp.basename(start))
    if begun is None:
        return []
    found = {file: _BEST.fullmatch(osp.basename(file)) for file in files}
    return [
        file
        for file, best in found.items()
        if best and best[1] == begun[1] and int(best[2]) > int(begun[2])
    ]


def set_aside(cfg: Config) -> None:
    """Move checkpoints away that a run would otherwise write over.

    A new run moves all of the work dir into a folder ``earlier_run_N`` there;
    one that goes on from a certain file moves those that are newer. Files
    that the config names stay. So with the ``out_dir`` of its checkpoint
    hook, if that is a folder on this disk.
    """
    for folder in _folders(cfg):
        _set_aside(cfg, folder)


def _folders(cfg: Config) -> list[str]:
    """Where a run writes checkpoints, as ``CheckpointHook`` does."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    out_dir = hook.get('out_dir') or cfg.work_dir
    if '://' in out_dir or same_file(out_dir, cfg.work_dir):
        return [cfg.work_dir]
    name = osp.basename(cfg.work_dir.rstrip(osp.sep))
    return [cfg.work_dir, osp.join(out_dir, name)]


def _set_aside(cfg: Config, folder: str) -> None:
    files = checkpoints(folder)
    if cfg.get('resume'):
        used = [same_file(file, cfg.load_from) for file in files]
        if True in used:
            start = used.index(True)
            rest = files[start + 1 :]
            files = files[:start] + _best_after(files[start], rest)
    named = list(_strings(cfg._cfg_dict))
    files = [f for f in files if not any(same_file(f, name) for name in named)]
    if not files:
        return
    number = 1
    while osp.exists(target := osp.join(folder, f'earlier_run_{number}')):
        number += 1
    os.makedirs(target)
    pointer, _ = _pointed(cfg.work_dir)
    moved = pointer is None or any(same_file(pointer, file) for file in files)
    last = osp.join(cfg.work_dir, POINTER)
    if moved and osp.exists(last):  # first: it must not name what is gone
        shutil.move(last, osp.join(target, POINTER))  # maybe another disk
    for file in files:
        os.rename(file, osp.join(target, osp.basename(file)))
    what = 'checkpoints newer than the one to go on from'
    if not cfg.get('resume'):
        what = 'checkpoints of an earlier run (--resume would have gone on)'
    print_log(
        f'moved {len(files)} {what} from {folder} into {target}: '
        f'{", ".join(map(osp.basename, files[:5]))}',
        logger='current',
        level=logging.WARNING,
    )


def _strings(node: Any) -> Iterator[str]:
    """Names of checkpoints, wherever in a config they are."""
    if isinstance(node, str) and node.endswith('.pth'):
        yield node
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _strings(child)


def same_file(one: str, other: str) -> bool:
    """Whether two paths lead to one file, there or not."""
    return osp.realpath(one) == osp.realpath(other)
