"""Kills of faults.py: at random moments, each followed by a resume."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import torch
from faults_runs import Bench, pretraining
from mmengine.runner import find_latest_checkpoint

from mmfgl.testing import tiny_coco
from mmfgl.utils.atomic_files import SUFFIX


def kill_and_resume(folder: Path, number: int, seed: int) -> dict[str, int]:
    """Kill runs that save after every iteration; resume each.

    Every other one is killed as soon as it is seen to write a file.

    Args:
        folder: Folder of the runs.
        number: Number of kills.
        seed: Seed of the moments.

    Returns:
        ``kills``, ``survived`` and ``kills_while_saving``.
    """
    if number:
        folder = folder / 'kills'
        folder.mkdir()
        data = tiny_coco(folder / 'data')
    rng = random.Random(seed)
    bench, counts = Bench(folder), [0, 0, 0]
    for index in range(number):
        cfg = pretraining(data, iters=10**4, interval=1)
        pid, log = bench.start(cfg, f'run{index}')
        work_dir = log.parent
        _wait_for(work_dir / 'last_checkpoint', pid)
        time.sleep(rng.uniform(0, 1.5))
        if index % 2:  # else most would fall between two saves
            _wait_for_save(work_dir)
        running = bench.kill(pid)
        saving = any(n.endswith(SUFFIX) for n in os.listdir(work_dir))
        survived = running and _resumes(bench, work_dir, data)
        counts = [
            count + change
            for count, change in zip(
                counts, (running, survived, saving), strict=True
            )
        ]
        state = 'resumed' if survived else 'LOST'
        moment = 'while saving' if saving else 'between saves'
        print(f'kill {index + 1}, {moment}: {state}', flush=True)
    return dict(
        zip(('kills', 'survived', 'kills_while_saving'), counts, strict=True)
    )


def _wait_for(path: Path, pid: int, limit: float = 120) -> None:
    """Wait for a file of a child."""
    start = time.monotonic()
    while not path.is_file():
        if os.waitpid(pid, os.WNOHANG)[0] or time.monotonic() - start > limit:
            raise RuntimeError(
                f'the run ended or hangs before {path} is there'
            )
        time.sleep(0.02)


def _wait_for_save(folder: Path, limit: float = 30) -> None:
    """Wait for the temporary file of a save, at most ``limit`` seconds."""
    start = time.monotonic()
    while time.monotonic() - start < limit:
        if any(name.endswith(SUFFIX) for name in os.listdir(folder)):
            return


def _resumes(bench: Bench, work_dir: Path, data: Path) -> bool:
    """Whether the last checkpoint is whole and a run goes on from it."""
    latest = find_latest_checkpoint(str(work_dir))
    saved = torch.load(latest, map_location='cpu', weights_only=False)
    iters = saved['meta']['iter'] + 2
    cfg = pretraining(data, iters=iters, interval=1)
    code, _ = bench.run(cfg, work_dir.name, '--resume')
    left = [n for n in os.listdir(work_dir) if n.endswith(SUFFIX)]
    return code == 0 and (work_dir / f'iter_{iters}.pth').exists() and not left
