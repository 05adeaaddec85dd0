"""Try a detector in the browser: candidates, attention and detections.

    mmfgl demo DIR
    mmfgl demo CONFIG CHECKPOINT

DIR is the folder of an `mmfgl run`, whose detector of the higher AP in
validation is shown; any FGL detector has config and checkpoint. The page is
served to this machine alone. Needs `pip install 'mmfgl[demo]'`.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('source', metavar='DIR|CONFIG', help='run folder, or config')
    add('checkpoint', nargs='?', help='checkpoint of the config')
    add('--examples', metavar='IMAGES', help='folder of images to choose from')
    add('--device', help='default: cuda if there is one, else cpu')
    add('--port', type=int, help='by default the first free one from 7860 on')
    trust = 'unpickle whatever the checkpoint holds, which can run any code'
    add('--trust-checkpoint', action='store_true', help=trust)


def main(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ModuleNotFoundError: Gradio is missing.
    """
    from mmfgl.utils.quiet import hushed

    try:
        with hushed():
            from mmfgl.visualization.page import build_page, serve
    except ModuleNotFoundError as error:
        if error.name != 'gradio':
            raise
        raise ModuleNotFoundError(
            "the page needs Gradio: pip install 'mmfgl[demo]'", name='gradio'
        ) from error
    from mmfgl.recipes.trained import find_trained, load_detector

    examples = [] if args.examples is None else find_examples(args.examples)
    trained = find_trained(args.source, args.checkpoint)
    with hushed():
        model = load_detector(trained, args.device, args.trust_checkpoint)
    page = build_page(model, trained.title, examples, trained.score_thr)
    print(f'{trained.title}: {trained.checkpoint}', flush=True)
    serve(page, args.port)


def find_examples(folder: str) -> list[str]:
    """The first images of a folder.

    Raises:
        FileNotFoundError: There are none.
    """
    from mmfgl.datasets.image_names import find_images

    names = find_images(folder).names[:8]
    if not names:
        raise FileNotFoundError(f'no image in {folder}')
    return [str(Path(folder, name)) for name in names]
