"""Run the commands of a longer job one by one, resumably and visibly."""

import ctypes
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.resume import find_checkpoint
from mmfgl.utils.work_dir_lock import WorkDirLock

# MMEngine's log: Epoch(train) [1][ 50/100] ... or Iter(val) [10/20] ...
_PROGRESS = re.compile(
    r'(?P<where>(?:Epoch|Iter)\(\w+\)\s+(?:\[\d+\])?\[\s*(?P<now>\d+)/'
    r'(?P<total>\d+)\])(?P<values>.*)'
)
# The summary of CheckpointChainHook's load report.
_LOADED = re.compile(r'[\d.]+ % of the declared modules loaded.*')
# How a tool ends on an error of the user.
_ERROR = re.compile(r'error: (.+)')
_VALUES = re.compile(r'(?<!\S)(loss|coco/bbox_mAP\w*|eta): +(\S+)')
_TIME = re.compile(r'(?<!\S)time: +(\S+)')
# MMEngine's progress bar of images.
_BAR = re.compile(r'\] (?P<now>\d+)/(?P<total>\d+), (?P<rate>[\d.]+) task/s')
_LIBC = ctypes.CDLL(None) if sys.platform == 'linux' else None
_PR_SET_PDEATHSIG = 1

#: Of a step's name, its pace (measured over expected seconds of an iteration)
#: and the share of it that is done: seconds to the end of the whole job.
Left = Callable[[str, float, float], float]


@dataclass
class Step:
    """One command of a job.

    Attributes:
        name: Unique name, also of its log file.
        command: A script and its arguments. An argument ``DIR/LATEST``
            stands for the newest checkpoint in DIR when the step is run.
        outputs: Files or folders that exist when the step is done.
        seconds: Expected duration, for the display.
        needs: Steps whose result it uses: it is redone when they are.
        config: Config file; the step is redone when its content changes.
        work_dir: Removed before a new start.
        resumable: ``--resume`` goes on in ``work_dir`` after an interruption.
        root: Folder that may be moved meanwhile: where it lies decides
            nothing.
        iteration: Expected seconds of an iteration, or image, as the command
            counts them.
    """

    name: str
    command: list[str]
    outputs: list[Path]
    seconds: float
    needs: list['Step'] = field(default_factory=list)
    config: str | None = None
    work_dir: Path | None = None
    resumable: bool = False
    root: Path | None = None
    iteration: float | None = None

    def digest(self) -> str:
        """A digest of all that decides the result but the code."""
        command = (x for x in self.command if x != '--trust-checkpoint')
        parts = [*command, *(step.digest() for step in self.needs)]
        if self.config is not None:
            time = os.stat(self.config).st_mtime_ns
            parts.append(_config_text(self.config, time))
        text = '\0'.join(parts)
        if self.root is not None:
            text = text.replace(f'{self.root}{os.sep}', '')
        return hashlib.sha256(text.encode()).hexdigest()

    def resolved_command(self) -> list[str]:
        """The command with each ``DIR/LATEST`` replaced."""

        def resolved(argument: str) -> str:
            folder = argument.removesuffix('/LATEST')
            if folder == argument:
                return argument
            checkpoint = find_checkpoint(folder, check=False)
            if checkpoint is None:
                raise FileNotFoundError(f'no checkpoint in {folder}')
            return checkpoint

        return list(map(resolved, self.command))


class StepRunner:
    """Runs steps, skips those already done and shows where they are.

    ``folder`` gets ``steps/NAME.json`` (digest and duration) and
    ``steps/NAME.log`` (full output) of each step. ``interval`` is the least
    number of seconds between two lines of progress.
    """

    def __init__(self, folder: str | Path, interval: float = 10) -> None:
        self.folder = Path(folder) / 'steps'
        self.folder.mkdir(parents=True, exist_ok=True)
        self.interval = interval

    def run(
        self,
        steps: Iterable[Step],
        total: int | None = None,
        left: Left | None = None,
    ) -> dict[str, float]:
        """Run steps in order; return the seconds that each took in all.

        A step comes after those it needs; a generator may make it from the
        results of those before. ``total`` is the number of steps, if
        ``steps`` does not have a length. With ``left``, the time that the
        whole job still takes is shown, too.

        Raises:
            RuntimeError: A command failed; says why, as far as it has said.
                Or another process runs steps in this folder.
        """
        seconds = {}
        total = len(steps) if total is None else total
        # a second one would remove the work dir of the step at work
        with WorkDirLock(str(self.folder), '--out'):
            for number, step in enumerate(steps, 1):
                title = f'[{number}/{total}] {step.name}'
                seconds[step.name] = self._run_or_skip(step, title, left)
        return seconds

    def _run_or_skip(self, step: Step, title: str, left: Left | None) -> float:
        state = self._state(step)
        if state['done'] and all(path.exists() for path in step.outputs):
            print(f'{title}: already done, took {state["seconds"]:.0f} s')
        else:
            text = f'{title}: expect about {clock(step.seconds)}'
            if left is not None:
                text += f'; all: {clock(left(step.name, 1.0, 0.0))} left'
            print(text, flush=True)
            self._run(step, state, left)
        return state['seconds']

    def _state(self, step: Step) -> dict:
        """What is known of an earlier run with the same digest."""
        digest = step.digest()
        path = self.folder / f'{step.name}.json'
        if path.is_file():
            state = json.loads(path.read_text())
            if state['digest'] == digest:
                return state | {'started': True}
        return dict(digest=digest, seconds=0.0, done=False, started=False)

    def _run(self, step: Step, state: dict, left: Left | None) -> None:
        """Run one step; ``state`` is updated and written."""
        command = step.resolved_command()
        folder = step.work_dir
        if folder is not None and folder.exists():
            if state['started'] and not state['done'] and step.resumable:
                command.append('--resume')
            else:
                shutil.rmtree(folder)
                state['seconds'] = 0.0
        state['done'] = False
        path = self.folder / f'{step.name}.json'
        before, start = state['seconds'], time.monotonic()

        def note() -> float:
            # as it goes, since a kill comes without warning: a resumed run
            # counts whole
            seconds = time.monotonic() - start
            state['seconds'] = before + seconds
            write_atomically(json.dumps(state).encode(), path)
            return seconds

        note()
        print(f'    python {shlex.join(command)}', flush=True)
        try:
            self._stream(step, command, note, left)
            state['done'] = True
        finally:
            seconds = note()
        print(f'    done in {clock(seconds)}', flush=True)

    def _stream(
        self,
        step: Step,
        command: list[str],
        note: Callable[[], float],
        left: Left | None,
    ) -> None:
        """Run a command; log all of its output, show some."""
        path = self.folder / f'{step.name}.log'
        shown = 0.0
        tail: deque[str] = deque(maxlen=25)
        process = subprocess.Popen(
            [sys.executable, '-u', *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors='replace',
            # waiting threads sleep: spinning ones are slow beyond measure on
            # cores that other processes use too
            env={'OMP_WAIT_POLICY': 'PASSIVE', **os.environ},
            preexec_fn=_end_with_parent,
        )
        start = time.monotonic()
        with process, path.open('a', encoding='utf-8', buffering=1) as log:
            try:
                for line in process.stdout:
                    log.write(line)
                    tail.append(line)
                    elapsed = time.monotonic() - start
                    text = progress_line(line, elapsed - shown > self.interval)
                    if text:
                        done = progress(line)
                        if left and done and step.iteration:
                            share, iteration = done
                            pace = iteration / step.iteration
                            seconds = left(step.name, pace, share)
                            text += f'; all: {clock(seconds)} left'
                        print(f'    {clock(elapsed)}  {text}', flush=True)
                        shown = elapsed
                        note()
            except BaseException:
                # it saves, and says so
                process.terminate()
                log.writelines(process.stdout)
                process.wait()
                raise
        if process.returncode:
            raise RuntimeError(_failure(step.name, path, list(tail)))


def _end_with_parent() -> None:
    """Get SIGTERM when the parent is gone, even by SIGKILL.

    A training that went on alone would be in the way of the next start.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def progress(line: str) -> tuple[float, float] | None:
    """Share of a step that is done, and seconds of an iteration.

    ``None`` of a line that does not tell, or tells of a validation only.
    """
    if bar := _BAR.search(line):
        rate = float(bar['rate']) or float('inf')
        return int(bar['now']) / int(bar['total']), 1 / rate
    match, time = _PROGRESS.search(line), _TIME.search(line)
    if match is None or time is None or '(val)' in match['where']:
        return None
    return int(match['now']) / int(match['total']), float(time[1])


@functools.cache
def _config_text(path: str, time: int) -> str:
    """All that a config sets; ``time`` is that of its last change."""
    return repr(Config.fromfile(path).to_dict())


def progress_line(line: str, due: bool = True) -> str:
    """Shorten a line of MMEngine's log; '' when it is not to be shown.

    Unless another line is ``due``, that is all but metrics and what was
    loaded from a checkpoint.
    """
    loaded = _LOADED.search(line)
    match = _PROGRESS.search(line)
    if due and (bar := _BAR.search(line)):
        return f'{bar["now"]}/{bar["total"]} images'
    if match is None:
        return loaded.group() if loaded else ''
    values = ' '.join(f'{k} {v}' for k, v in _VALUES.findall(match['values']))
    if due or 'mAP' in values:
        return f'{match["where"]}  {values}'
    return ''


def _failure(name: str, log: Path, tail: list[str]) -> str:
    """What to say of a command that failed, from the end of its output.

    A tool that knows what is wrong has said it in a line of its own.
    """
    for line in reversed(tail):
        match = _ERROR.fullmatch(line.strip())
        if match is not None:
            return f'step "{name}" failed: {match[1]} (all of it in {log})'
    return f'step "{name}" failed. The end of {log}:\n' + ''.join(tail)


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f'{hours}:{minutes:02d}:{seconds:02d}'
    return f'{minutes}:{seconds:02d}'
