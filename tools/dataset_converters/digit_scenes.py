"""Build digit scenes, the embedded 10-class detection set (COCO format).

Usage::

    python tools/dataset_converters/digit_scenes.py --out data/digit_scenes

Offline and seeded: two runs write the same bytes. About 30 seconds on one
core for the defaults. See ``mmfgl/testing/digit_scenes.py``.
"""

import argparse

from mmfgl.testing.digit_scenes import build_digit_scenes
from mmfgl.utils.user_errors import add_debug_argument, user_errors


def parse_size(text: str) -> tuple[int, int]:
    """Parse WIDTHxHEIGHT, in pixels."""
    try:
        width, height = (int(part) for part in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT such as '320x240', got {text!r}"
        ) from None
    return width, height


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Build the digit scenes detection set (COCO format)',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--out', default='data/digit_scenes', help='folder')
    parser.add_argument('--train', type=int, default=240, help='images')
    parser.add_argument('--val', type=int, default=80, help='images')
    parser.add_argument('--unlabelled', type=int, default=400, help='images')
    parser.add_argument(
        '--size', type=parse_size, default=(320, 240), help='WIDTHxHEIGHT'
    )
    parser.add_argument('--seed', type=int, default=0, help='random seed')
    parser.add_argument(
        '--force',
        action='store_true',
        help='replace digit scenes made with other settings',
    )
    add_debug_argument(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Build the set; stop with a one-line message on a user's error."""
    args = vars(parse_args(argv))
    with user_errors(args.pop('debug')):
        build_digit_scenes(**args)


if __name__ == '__main__':
    main()
