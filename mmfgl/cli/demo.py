"""Serve a page that shows candidates, attention and detections of an image."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``mmfgl demo``."""
    add = parser.add_argument
    add('model', nargs='+', help='DIR of mmfgl run, or CONFIG CHECKPOINT')
    add('--examples', help='folder of images to choose from')
    add('--device', default='cpu', help='e.g. cuda:0')
    add('--port', type=int, help='by default the first free one from 7860 on')
    trust = 'unpickle whatever the checkpoint holds, which can run any code'
    add('--trust-checkpoint', action='store_true', help=trust)


def main(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ModuleNotFoundError: Gradio is missing.
    """
    try:
        from mmfgl.visualization.page import build_page, serve
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise ModuleNotFoundError(
            "the page needs Gradio: pip install 'mmfgl[demo]'", name='gradio'
        ) from error
    from mmfgl.recipes import load_detector

    model = load_detector(args.model, args.device, args.trust_checkpoint)
    examples = []
    if args.examples:
        examples = [str(p) for p in sorted(Path(args.examples).iterdir())[:8]]
    serve(build_page(model, 'FGL Faster R-CNN', examples), args.port)
