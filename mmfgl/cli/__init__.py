"""The command ``mmfgl``: fine-grained object localization on own data."""

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence

from mmfgl.utils.user_errors import add_debug_argument, user_errors
from mmfgl.version import __version__

# Subcommand -> what it does; the module of the same name has the rest:
# add_arguments(parser) and main(args), its docstring is the help.
COMMANDS = {
    'run': "train on one's own photographs, from data to report",
    'predict': 'find objects in images with what `mmfgl run` has trained',
    'report': 'one page about training runs and tests',
    'export': 'write a detector as ONNX',
    'demo': 'try a detector in the browser',
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; only the module that it names is imported.

    Args:
        argv: Arguments, by default those of the process.

    Returns:
        The arguments of the subcommand, ``command`` (its name) and ``main``.
    """
    parser = argparse.ArgumentParser(prog='mmfgl', description=__doc__)
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(
        dest='command', required=True, metavar='COMMAND'
    )
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    known, rest = parser.parse_known_args(argv)
    module = importlib.import_module(f'mmfgl.cli.{known.command}')
    parser = argparse.ArgumentParser(
        prog=f'mmfgl {known.command}',
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    add_debug_argument(parser)
    args = parser.parse_args(rest)
    args.command, args.main = known.command, module.main
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Run a subcommand; an error of the user ends it in one line.

    Args:
        argv: Arguments, by default those of the process.

    Raises:
        SystemExit: With status 1 after an error, 130 after an interruption.
    """
    # Waiting threads sleep; read by OpenMP as torch is imported.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
    args = parse_args(argv)
    try:
        with user_errors(args.debug):
            args.main(args)
    except KeyboardInterrupt:
        goes_on = ': the same command goes on' * (args.command == 'run')
        print(f'stopped{goes_on}', file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
