#!/usr/bin/env python
r"""Fill the tables of READMEs, docs and metafiles from kept results.

    python tools/analysis_tools/benchmark_table.py             # fill in place
    python tools/analysis_tools/benchmark_table.py --check     # compare alone
    python tools/analysis_tools/benchmark_table.py --show arms data=aquarium
    python tools/analysis_tools/benchmark_table.py --add RUN_DIR [--name NAME]

Kept results are small JSON files in benchmarks/results/, one a run (schema in
benchmark_tables/kept.py). `--add` makes one from the `--out` of a finished
benchmark or `mmfgl run`, or from the model.check.json of `mmfgl export
--check`: it takes command, commit, machine, settings and metrics, drops what
belongs to one machine's file system, and fills the tables. A run that got
more seeds or arms replaces its file. A table stands in Markdown between
`<!-- table: NAME KEY=VALUE ... -->` and `<!-- end -->`; a measured number
anywhere else is an error, and so is, with `--check`, a table that the files do
not give.
"""

import argparse
import sys
from pathlib import Path

# when another program runs this file
sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmark_tables.adding import add_run
from benchmark_tables.kept import RESULTS, ROOT, read_kept
from benchmark_tables.tables import TABLES, render
from benchmark_tables.texts import files, fill, stray_numbers


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument('--check', action='store_true', help='write nothing')
    mode.add_argument('--add', metavar='RUN_DIR', help='keep a finished run')
    names = ', '.join(TABLES)
    help_show = f'print one of {names}; KEY=VALUE keeps runs of a setting'
    mode.add_argument('--show', nargs='+', metavar='NAME', help=help_show)
    add('--name', help='of the kept file of --add, without .json')
    add('--command', help='of the run, where --add cannot tell')
    add('--commit', help='of the run, where --add cannot tell')
    return parser.parse_args(argv)


def outdated(root: Path, results: Path, write: bool) -> list[str]:
    """Files whose tables are not those of the kept results, made so if asked.

    Returns:
        One line a file and problem.
    """
    kept, problems = read_kept(results), stray_numbers(root)
    for path in files(root):
        try:
            new = fill(path, kept)
        except ValueError as error:
            problems.append(str(error))
            continue
        if new == path.read_text(encoding='utf-8'):
            continue
        if write:
            path.write_text(new, encoding='utf-8')
            print(f'filled {path}')
        else:
            problems.append(
                f'{path}: tables and kept results disagree; run '
                'tools/analysis_tools/benchmark_table.py'
            )
    return problems


def main(
    argv: list[str] | None = None,
    root: Path = ROOT,
    results: Path = RESULTS,
) -> None:
    """Add, show, check or fill."""
    args = parse_args(argv)
    try:
        if args.show:
            only = dict(pair.split('=', 1) for pair in args.show[1:])
            print(render(args.show[0], read_kept(results), only))
            return
        if args.add:
            written = add_run(
                Path(args.add),
                results,
                name=args.name,
                command=args.command,
                commit=args.commit,
            )
            print('\n'.join(f'kept {path}' for path in written))
        problems = outdated(root, results, write=not args.check)
    except (OSError, ValueError) as error:
        sys.exit(f'benchmark_table: {error}')
    if problems:
        sys.exit('benchmark_table: ' + '\n'.join(problems))


if __name__ == '__main__':
    main()
