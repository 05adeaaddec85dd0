#!/usr/bin/env python
r"""Draw what an FGL detector does with an image, without a display.

    python tools/analysis_tools/draw_candidates.py IMAGE CONFIG CHECKPOINT \
        --out candidates.png

Four panels: candidates kept and dropped by the selector, important targets,
what one target reads through the attention mask, final boxes.
"""

import argparse
from pathlib import Path

from mmdet.apis import init_detector
from mmengine.config import Config

import mmfgl  # noqa: F401  (its registry nodes)
from mmfgl.utils.user_errors import add_debug_argument, user_errors
from mmfgl.utils.weights import (
    check_opened_weights,
    check_test_checkpoint,
    safe_load,
    use_safe_loading,
)
from mmfgl.visualization.candidates import draw_trace, trace_image


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('image', help='image file')
    add('config', help='config of an FGL detector')
    add('checkpoint', help='checkpoint of it')
    add('--out', default='candidates.png', help='picture')
    add('--target', type=int, default=0, help='whose attention: 0 is the best')
    add('--score-thr', type=float, default=0.3)
    add('--device', default='cpu')
    trust = 'unpickle whatever the checkpoint holds, which can run any code'
    add('--trust-checkpoint', action='store_true', help=trust)
    add_debug_argument(parser)
    return parser.parse_args()


def draw(args: argparse.Namespace) -> None:
    """Draw the picture.

    Raises:
        FileNotFoundError: A file is missing.
        RuntimeError, TypeError, ValueError: The input does not fit.
    """
    for path in (args.image, args.config, args.checkpoint):
        if not Path(path).is_file():
            raise FileNotFoundError(f'no such file: {path}')
    use_safe_loading(args.trust_checkpoint)
    cfg = Config.fromfile(args.config)
    check_opened_weights(cfg.model)
    model = init_detector(
        cfg, args.checkpoint, palette='random', device=args.device
    )
    check_test_checkpoint(
        model, safe_load(args.checkpoint, args.trust_checkpoint)
    )
    figure = draw_trace(
        trace_image(model, args.image), args.target, args.score_thr
    )
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=80)
    print(f'wrote {args.out}')


def main() -> None:
    """Draw the picture, see the module's docstring."""
    args = parse_args()
    with user_errors(args.debug):
        draw(args)


if __name__ == '__main__':
    main()
