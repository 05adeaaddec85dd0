#!/usr/bin/env python
"""`mmfgl run` on data that are at hand, in 15 minutes on 2 cores.

Data are the blood cells or aquarium photographs of $MMFGL_DATA_ROOT (folders
`bccd` and `aquarium`), if it is set and holds them, else the embedded digit
scenes, which are built first. What is done already is skipped.

    python tools/quickstart.py --out work_dirs/quickstart
"""

import argparse
import os
from pathlib import Path

from mmfgl import run
from mmfgl.testing.digit_scenes import build_digit_scenes
from mmfgl.utils.user_errors import add_debug_argument, user_errors

REAL = ('bccd', 'aquarium')
DIGITS = Path('data', 'digit_scenes')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--out', default='work_dirs/quickstart', help='folder')
    add('--minutes', type=float, default=15, help='length (default: 15)')
    add_debug_argument(parser)
    return parser.parse_args()


def find_data() -> Path:
    """Folder of a data set; digit scenes are built if there is no other."""
    root = os.environ.get('MMFGL_DATA_ROOT')
    for name in REAL if root else ():
        folder = Path(root, name)
        if (folder / 'annotations' / 'train.json').is_file():
            return folder
    build_digit_scenes(DIGITS)
    return DIGITS


def main() -> None:
    """Find data, and run."""
    args = parse_args()
    with user_errors(args.debug):
        data = find_data()
        # a mirrored digit is no digit
        run(data, out=args.out, minutes=args.minutes, flip=data != DIGITS)


if __name__ == '__main__':
    main()
