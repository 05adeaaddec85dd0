"""A start that fits on a screen: what is long goes to the log file alone."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

# Packages whose INFO before the first iteration is a dump: environment, whole
# config, table of hooks, every parameter that is initialised.
_PARENTS = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'pycocotools')
# What the parents say to themselves, at any time.
_NOISE = (
    # keys by the hundred; StrictLoadHook reports them by module
    'The model and loaded state dict do not match exactly',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias of "LocalBackend"',
    'Could not import OneDL',
)


class QuietStart(logging.Filter):
    """Keeps off the terminal what only the log file needs.

    Hidden are what the parents say at level INFO and below until
    :meth:`end`, and their known noise at any time. Warnings, errors, and what
    mmfgl and the user's own modules say, are shown.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ended = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to show a record."""
        text = record.getMessage()
        if any(words in text for words in _NOISE):
            return False
        if self.ended or record.levelno > logging.INFO:
            return True
        return _speaker() not in _PARENTS

    def end(self) -> None:
        """Show everything from now on, but the noise."""
        self.ended = True


def quieten(logger: logging.Logger) -> None:
    """Put a :class:`QuietStart` on the terminal's handlers of a logger."""
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(QuietStart())


def end_quiet_start(logger: logging.Logger) -> None:
    """End every :class:`QuietStart` of a logger."""
    for handler in logger.handlers:
        for entry in handler.filters:
            if isinstance(entry, QuietStart):
                entry.end()


def _speaker() -> str:
    """The package that logs: the first caller outside of the logging."""
    frame = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get('__name__', '')
        ours = name == __name__ or name.startswith('mmengine.logging')
        if not ours and name.partition('.')[0] != 'logging':
            return name.partition('.')[0]
        frame = frame.f_back
    return ''


class _Printed(io.TextIOBase):
    """Hands on to a logger what is printed, but progress bars."""

    def __init__(self, logger: logging.Logger, terminal: TextIO) -> None:
        self.logger, self.terminal = logger, terminal

    def write(self, text: str) -> int:
        """Log a text."""
        if '\r' in text:
            self.terminal.write(text)
        elif text.strip():
            self.logger.info(text.rstrip())
        return len(text)


@contextlib.contextmanager
def logged_prints(logger: logging.Logger) -> Iterator[None]:
    """Let a logger have what is printed, so that it is in the log file."""
    with contextlib.redirect_stdout(_Printed(logger, sys.stdout)):
        yield


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Nothing that is printed, warned or logged below an error is seen."""
    from mmengine.logging import MMLogger

    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('ERROR')
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Import packages of the parents without their chatter.

    Known noise that they print, and warnings that things are deprecated,
    which are for their authors, are dropped; all else is shown.
    """
    printed = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(printed):
            for kind in (DeprecationWarning, FutureWarning):
                warnings.simplefilter('ignore', kind)
            # mmdet's FasterCocoMetric, which nobody has asked for
            missing = 'faster_coco_eval is not installed'
            warnings.filterwarnings('ignore', message=missing)
            yield
    finally:
        for line in printed.getvalue().splitlines():
            if not any(words in line for words in _NOISE):
                print(line)
