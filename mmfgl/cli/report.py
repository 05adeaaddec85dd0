"""Make one page about training runs and tests: report.html, and report.md.

    mmfgl report DIR [DIR ...] [--out OUT]

A DIR is a work dir of tools/train.py or tools/test.py, the folder of
`mmfgl run`, an output of tools/benchmarks/transfer.py, or a folder of such;
several are compared. The page needs no other file and no network.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('dirs', nargs='+', metavar='DIR', help='folder of a run, or of runs')
    out = 'folder of the report (default: DIR; of several, work_dirs/report)'
    add('--out', metavar='OUT', help=out)


def main(args: argparse.Namespace) -> None:
    """Write the report and say where it is."""
    from mmfgl.reports import report

    print(report(args.dirs, args.out))
