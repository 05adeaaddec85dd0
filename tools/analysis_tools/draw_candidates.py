#!/usr/bin/env python
r"""Draw what an FGL detector does with an image, without a display.

    python tools/analysis_tools/draw_candidates.py IMAGE CONFIG CHECKPOINT \
        --out candidates.png

Four panels: candidates kept and dropped by the selector, important targets,
what one target reads through the attention mask, final boxes.
"""

import argparse
import sys
from pathlib import Path

from mmdet.apis import init_detector
from mmengine.config import DictAction

import mmfgl  # noqa: F401  (its registry nodes)
from mmfgl.visualization.candidates import draw_trace, trace_image


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('image', help='image file')
    parser.add_argument('config', help='config of an FGL detector')
    parser.add_argument('checkpoint', help='checkpoint of it')
    parser.add_argument('--out', default='candidates.png', help='picture')
    parser.add_argument(
        '--target',
        type=int,
        default=0,
        help='whose attention to draw: 0 is the target of highest score',
    )
    parser.add_argument('--score-thr', type=float, default=0.3)
    parser.add_argument('--max-boxes', type=int, default=200)
    parser.add_argument('--device', default='cpu')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='config changes'
    )
    return parser.parse_args()


def main() -> None:
    """Draw the picture; ends with a message if the input does not fit."""
    args = parse_args()
    for path in (args.image, args.config, args.checkpoint):
        if not Path(path).is_file():
            sys.exit(f'no such file: {path}')
    model = init_detector(
        args.config,
        args.checkpoint,
        palette='random',
        device=args.device,
        cfg_options=args.cfg_options,
    )
    try:
        figure = draw_trace(
            trace_image(model, args.image),
            tuple(model.dataset_meta['classes']),
            target=args.target,
            score_thr=args.score_thr,
            max_boxes=args.max_boxes,
        )
    except (TypeError, ValueError) as error:
        sys.exit(str(error))
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=80)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
