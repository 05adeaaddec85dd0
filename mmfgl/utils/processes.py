"""Which process owns a file, also on a file system that hosts share."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path


def owner_tag(pid: int | None = None) -> str:
    """``machine-pid-start`` of a process of this machine, by default this one.

    ``machine`` is a hash of host name, boot and process namespace: two
    containers of a host, or a host before and after a reboot, are told apart.
    ``start`` tells a process from a later one with the same number.
    """
    pid = os.getpid() if pid is None else pid
    return f'{_machine()}-{pid}-{_start(pid)}'


def is_alive(tag: str) -> bool | None:
    """Whether the process of an :func:`owner_tag` runs; None if unknown.

    Unknown are processes of other machines, and what is no such tag.
    """
    machine, _, rest = tag.partition('-')
    pid = rest.partition('-')[0]
    if machine != _machine() or not pid.isdecimal():
        return None
    start = _start(int(pid))
    return start != '' and tag == f'{machine}-{pid}-{start}'


def _machine() -> str:
    parts = [socket.gethostname()]
    for path in ('/proc/sys/kernel/random/boot_id', '/proc/self/ns/pid'):
        try:
            is_link = os.path.islink(path)
            part = os.readlink(path) if is_link else Path(path).read_text()
        except OSError:
            part = ''
        parts.append(part.strip())
    return hashlib.sha1('\n'.join(parts).encode()).hexdigest()[:12]


def _start(pid: int) -> str:
    """When a process started, in ticks; '' if there is none.

    Zombies, dead but not yet waited for, count as none. '0' on systems
    without /proc.
    """
    if not os.path.isdir('/proc/self'):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ''
        except PermissionError:
            pass  # of another user
        return '0'
    try:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
    except OSError:
        return ''
    state, *numbers = fields.split()
    return '' if state in 'ZX' else numbers[18]
