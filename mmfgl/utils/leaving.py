"""The end of a process that has talked to others."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator

import torch.distributed as dist


@contextlib.contextmanager
def leaving() -> Iterator[None]:
    """End a process of a distributed run with its own exit status.

    Around all that ``main`` of a tool does. As Python ends, PyTorch takes
    process groups apart, and the threads of a gloo group may then abort the
    process (seen in 2.10: SIGABRT in place of status 0, or of a stop's); taken
    apart before, it may hang. So the process ends before that, after what
    Python does at exit and with all output written. One that is alone goes
    on.

    Raises:
        BaseException: As it was raised, in a process that is alone.
    """
    code: object = 0
    try:
        yield
    except SystemExit as error:
        code = error.code
        if not _has_group():
            raise
    except BaseException:
        code = 1
        if not _has_group():
            raise
        traceback.print_exc()
    if _has_group():
        _end(code)


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _end(code: object) -> None:
    """End at once, with a status as of ``sys.exit``."""
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code or 0)
