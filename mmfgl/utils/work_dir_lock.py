"""One run a work dir, on whichever hosts share it."""

from __future__ import annotations

import contextlib
import json
import os
import os.path as osp
import socket
import threading
import time
import uuid

from mmengine.logging import print_log

from mmfgl.utils.processes import is_alive, owner_tag

NAME = '.mmfgl-lock'
BEAT = 10.0  # seconds between two signs of life
PATIENCE = 60.0  # seconds without one after which an owner is dead


class WorkDirInUseError(RuntimeError):
    """Another run writes into the work dir."""


class WorkDirLostError(RuntimeError):
    """Another run has taken over the work dir of this one."""


class WorkDirLock:
    """A lock file in a work dir, with its owner and a heartbeat.

    The lock of a dead owner is taken over. Death of a process of this machine
    is seen at once; an owner on another host, or before a reboot, is watched
    for ``PATIENCE`` seconds: it is alive if its heartbeat moves. No clocks
    are compared, as those of hosts and file servers differ, and nothing but
    exclusive creation and renaming is asked of the file system (NFS has
    both; its ``flock`` is not to be relied on).

    Use it as a context manager, on the main process alone.

    Args:
        folder: The work dir; made if it is not there.
        option: What chooses it, for the messages.

    Raises:
        WorkDirInUseError: On entering: another run is at work there.
    """

    def __init__(self, folder: str, option: str = '--work-dir') -> None:
        self.folder = osp.abspath(folder)
        self.option = option
        self.path = osp.join(self.folder, NAME)
        self.beats = 0
        self.lost = False
        self._ended = threading.Event()
        self._about = dict(
            token=uuid.uuid4().hex,
            owner=owner_tag(),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=time.strftime('%Y-%m-%d %H:%M:%S'),
            job=os.environ.get('SLURM_JOB_ID'),
        )

    def __enter__(self) -> WorkDirLock:
        self._made = not osp.isdir(self.folder)
        os.makedirs(self.folder, exist_ok=True)
        while not self._create():
            self._remove_or_refuse()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._is_mine():
            os.remove(self.path)
        if self._made:  # leave no empty folder, e.g. after a wrong config
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)

    def check(self) -> None:
        """Make sure that the work dir is still this run's.

        Raises:
            WorkDirLostError: The lock is gone or another's, e.g. because this
                process was suspended for so long that it seemed dead.
        """
        if self.lost:
            raise WorkDirLostError(
                f'{self.path} is no longer that of this run, so it writes '
                'nothing more there: another run has taken over the work dir, '
                'or somebody has removed the file'
            )

    def _content(self) -> bytes:
        text = json.dumps(dict(self._about, beat=self.beats))
        return text.ljust(512).encode()  # of one length: written in place

    def _create(self) -> bool:
        """Make the lock file, unless there is one."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
        try:
            handle = os.open(self.path, flags, 0o644)
        except FileExistsError:
            return False
        try:
            with os.fdopen(handle, 'wb') as file:
                file.write(self._content())
        except OSError as error:  # an empty one would keep the next run out
            with contextlib.suppress(OSError):
                os.remove(self.path)
            raise OSError(
                error.errno,
                f'{self.path} could not be written ({error.strerror}): make '
                f'room or choose another {self.option}',
            ) from error
        return True

    def _live(self) -> None:
        """Give signs of life, in a thread."""
        while not self._ended.wait(BEAT):
            try:
                self._beat()
            except FileNotFoundError:
                self.lost = True
            except OSError:
                continue  # of a file server that is away for a moment
            if self.lost:
                return

    def _beat(self) -> None:
        # one handle: a file moved away meanwhile is not the next owner's
        with open(self.path, 'r+b') as file:
            try:
                found = json.loads(file.read()).get('token')
            except ValueError:
                found = None
            self.lost = found != self._about['token']
            if not self.lost:
                self.beats += 1
                file.seek(0)
                file.write(self._content())

    def _is_mine(self) -> bool:
        return _read(self.path).get('token') == self._about['token']

    def _remove_or_refuse(self) -> None:
        """Remove the lock of a dead owner, or raise WorkDirInUseError."""
        found = _read(self.path)
        alive = is_alive(found.get('owner', ''))
        who = f'process {found.get("pid", "?")} on {found.get("host", "?")}'
        if alive is None:
            print_log(
                f'{self.folder} was in use by {who}: waiting up to '
                f'{PATIENCE:.0f} s for a sign of life'
            )
            limit = time.monotonic() + PATIENCE
            while (now := _read(self.path)) == found:
                if time.monotonic() > limit:
                    break
                time.sleep(min(1.0, PATIENCE / 10))
            if now != found and now.get('token') != found.get('token'):
                return  # gone, or another's: look again
            alive = now != found
        if alive:
            job = found.get('job')
            job = f' (Slurm job {job})' if job else ''
            raise WorkDirInUseError(
                f'{self.folder} is in use by {who}{job}, since '
                f'{found.get("since", "?")}: wait for that run, stop it, or '
                f'choose another {self.option}'
            )
        # Of several that see the same dead owner, one moves the file away.
        aside = f'{self.path}.{self._about["token"]}'
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        if _read(aside).get('token') != found.get('token'):
            os.rename(aside, self.path)  # a new owner was quicker
            return
        os.remove(aside)
        print_log(f'took over {self.folder} from {who}, which is dead')


def _read(path: str) -> dict:
    """What a lock file says; nothing if it is not there, or being made."""
    try:
        with open(path, 'rb') as file:
            return json.loads(file.read())
    except (FileNotFoundError, ValueError):
        return {}
