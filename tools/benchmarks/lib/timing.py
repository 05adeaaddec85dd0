"""Alternating timing and peak memory of the benchmarks."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch


def alternate(
    steps: dict[str, Callable[[], None]], repeats: int, device: str
) -> dict[str, float]:
    """Median seconds of steps in turn, so that noise disturbs them alike.

    There is one warm-up round before the ``repeats``; odd ones run backwards.
    The device is waited for.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for index in range(repeats):
        order = list(steps)
        for name in order if index % 2 == 0 else order[::-1]:
            wait(device)
            start = time.perf_counter()
            steps[name]()
            wait(device)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def wait(device: str | torch.device) -> None:
    """Until the device has done all it was given."""
    if torch.device(device).type == 'cuda':
        torch.cuda.synchronize(device)


def memory_of(program: Sequence[str]) -> float:
    """Peak memory in MB of a script that calls :func:`report_peak`."""
    command = [sys.executable, *map(str, program)]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout.splitlines()[-1])['peak_mb']


@contextmanager
def report_peak(device: str) -> Iterator[None]:
    """Print the peak memory of the context in MB as a line of JSON.

    On a GPU that of the allocator, on a CPU the growth of the process's peak
    resident size (Linux).
    """
    before = _peak_kb()
    yield
    if device.startswith('cuda'):
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        peak = (_peak_kb() - before) / 2**10
    print(json.dumps(dict(peak_mb=peak)))


def _peak_kb() -> int:
    """Peak resident size of this process in kB.

    ``getrusage`` would not do: a process inherits its parent's peak.
    """
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmHWM:'):
            return int(line.split()[1])
    raise RuntimeError('/proc/self/status has no VmHWM: not Linux?')
