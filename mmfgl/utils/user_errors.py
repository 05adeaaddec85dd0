"""Errors of users end a command in one line; others keep their traceback."""

from __future__ import annotations

import argparse
import contextlib
import dis
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType

from mmfgl.utils.cpu_dist import RANK_VARIABLES

_RAISE = dis.opmap['RAISE_VARARGS']
# Installed packages whose `raise` statements tell a user what is wrong. Tools,
# which are run by path, and modules of the user are not installed.
_PACKAGES = ('mmfgl', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain')
_INSTALLED = re.compile(r'[/\\](?:site|dist)-packages[/\\](\w+)')
_STANDARD = sysconfig.get_paths()['stdlib']
# of these, even a deliberate one tells of a fault in the code
_FAULTS = (AssertionError, AttributeError, NotImplementedError, NameError)
_CONFIG = 'mmengine.config.config'
_BUILD = 'mmengine.registry.build_functions'
REPORT = (
    'This looks like a fault in the code, not in what you gave: please report '
    "it to mmfgl's issue tracker, with the command, the lines above and what "
    '`python tools/check_install.py` prints.'
)


def add_debug_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--debug``, for :func:`user_errors`."""
    parser.add_argument(
        '--debug',
        action='store_true',
        help='show the traceback of every error',
    )


@contextlib.contextmanager
def user_errors(debug: bool = False) -> Iterator[None]:
    """End an error of the user in one line, without a traceback.

    Around what ``main`` of a tool or command does::

        args = parse_args()
        with user_errors(args.debug):
            ...

    The line goes to stderr as ``error: ...``, in distributed runs as
    ``error: rank 1: ...``, and the status is 1. What is no error of the user
    (:func:`is_users_error`) goes on as it is, after a line that says where to
    report it; exit statuses of their own (``SystemExit``) are left alone.

    Args:
        debug: Let every error go on with its traceback.

    Raises:
        SystemExit: With the line, which Python prints at the end.
    """
    try:
        yield
    except Exception as error:
        if debug:
            raise
        if is_users_error(error):
            line = f'error: {_rank()}{error_line(error)}'
            raise SystemExit(line) from error
        traceback.print_exception(type(error), error, error.__traceback__)
        raise SystemExit(f'{_rank()}{REPORT}') from error


def is_users_error(error: BaseException) -> bool:
    """Whether an error tells of the input and the machine, not of the code.

    That is:

    - files, memory and packages that are missing or refuse: ``OSError``,
      ``MemoryError`` and CUDA's, ``ImportError`` (but of mmfgl itself), and
      the loss of another process of a distributed run;
    - whatever a config does while it is read;
    - arguments of a config that the class it names does not take;
    - values that a class of another library, built from a config, refuses in
      its constructor;
    - exceptions of mmfgl's own classes;
    - every other exception that a ``raise`` statement of mmfgl, of its
      parents, of a tool or of the user's own modules has thrown, which
      somebody has written for the user. Python's own, such
      as a ``ValueError`` of ``a, b = 1, 2, 3`` or a ``KeyError`` of
      ``d['x']``, and failed assertions are faults in the code.
    """
    if isinstance(error, ImportError):
        return not (error.name or '').startswith('mmfgl')
    if isinstance(error, OSError | MemoryError) or _is_of_machine(error):
        return True
    if type(error).__module__.startswith('mmfgl.'):
        return True
    frames = list(traceback.walk_tb(error.__traceback__))
    if any(_is_reading(frame) for frame, _ in frames):
        return True
    if not frames:
        return False
    if isinstance(error, TypeError) and _is_unknown_argument(error, frames):
        return True
    if isinstance(error, _FAULTS):
        return False
    if text := _worker_traceback(error):
        path, code = re.findall(r'File "(.+)", line .+\n\s+(.+)', text)[-1]
        return code.startswith('raise ') and _is_for_users(path)
    last = _last(error.__traceback__)
    code = last.tb_frame.f_code
    if code.co_code[last.tb_lasti] != _RAISE:
        return False
    built = any(
        frame.f_globals.get('__name__') == _BUILD for frame, _ in frames
    )
    constructed = built and code.co_name == '__init__'
    return constructed or _is_for_users(code.co_filename)


def error_line(error: BaseException) -> str:
    """What an error says, in one line; names the config it arose in."""
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # without quotes
    if 'in DataLoader worker process' in text:
        text = re.split(r'\n[\w.]+(?:Error|Exception|error): ', text)[-1]
    lines = [line.strip() for line in text.split('\n') if line.strip()]
    for index, line in enumerate(lines[:-1]):
        if line[-1] not in '.,:;!?':
            lines[index] += ';'
    line = ' '.join(part.removeprefix('- ') for part in lines)
    if not isinstance(error, OSError | ValueError | RuntimeError | KeyError):
        line = f'{type(error).__name__}: {line}'
    if 'out of memory' in line:
        line = f'{line} Take a smaller batch_size, or --amp.'
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        path = str(frame.f_locals.get('filename', ''))
        if _is_reading(frame) and path:
            return line if path in line else f'{path}: {line}'
    return line or type(error).__name__


def _last(trace: TracebackType) -> TracebackType:
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _is_for_users(path: str) -> bool:
    """Whether the code of a file speaks to the user, not to a caller."""
    if found := _INSTALLED.search(path):
        return found[1] in _PACKAGES
    return not path.startswith(('<', _STANDARD))


def _is_reading(frame: FrameType) -> bool:
    """Whether it reads or merges a config."""
    return frame.f_globals.get('__name__') == _CONFIG and (
        frame.f_code.co_name in ('fromfile', '_file2dict', 'merge_from_dict')
    )


def _is_unknown_argument(error: TypeError, frames: list) -> bool:
    """Whether a class lacks an argument, or takes no such one, of a config.

    Classes hand keyword arguments on to their parents.
    """
    frames = [frame for frame, _ in frames]
    builds = [
        i
        for i, frame in enumerate(frames)
        if frame.f_globals.get('__name__') == _BUILD
    ]
    if not builds:
        return False
    if builds[-1] == len(frames) - 1:  # the call itself has failed
        return True
    name = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    given = frames[builds[-1]].f_locals.get('args', {})
    inits = {frame.f_code.co_name for frame in frames[builds[-1] + 1 :]}
    return bool(name) and name[1] in given and inits == {'__init__'}


def _is_of_machine(error: BaseException) -> bool:
    """Whether memory has run out or the link to another rank is lost."""
    text = str(error)
    lost = ('Connection closed by peer', 'Connection reset by peer')
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == 'OutOfMemoryError'
        or "can't allocate memory" in text
        or any(words in text for words in lost)
    )


def _worker_traceback(error: BaseException) -> str:
    """Traceback in the process that an error comes from, '' if this one."""
    if 'in DataLoader worker process' in str(error):
        return str(error)
    cause = error.__cause__  # from a pool of processes
    remote = type(cause).__name__.endswith('RemoteTraceback')
    return str(cause) if remote else ''


def _rank() -> str:
    """``'rank 1: '`` in a distributed run, else nothing."""
    for rank, size, _ in RANK_VARIABLES.values():
        if int(os.environ.get(size) or 1) > 1 and rank in os.environ:
            return f'rank {os.environ[rank]}: '
    return ''
