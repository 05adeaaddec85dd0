"""Find objects in images with a detector that `mmfgl run` has trained.

    mmfgl predict DIR IMAGES --out OUT

IMAGES is a folder, a file, or a pattern such as 'photos/*.jpg'. OUT gets a
picture for each image and predictions.json. Of both detectors of the run, the
one of the higher AP on its validation photographs is taken.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('run_dir', metavar='DIR', help='folder of a finished `mmfgl run`')
    add('images', metavar='IMAGES', help='folder, file or pattern')
    add('--out', required=True, metavar='OUT', help='folder of the pictures')
    score = 'least score (default: the one of the highest F1 in validation)'
    add('--score-thr', type=float, metavar='S', help=score)
    tta = 'test-time augmentation: several views an image, slower'
    add('--tta', action='store_true', help=tta)


def main(args: argparse.Namespace) -> None:
    """Predict."""
    from mmfgl.utils.quiet import hushed

    with hushed():
        from mmfgl.recipes.predicting import predict

    predict(
        args.run_dir,
        args.images,
        out=Path(args.out),
        score_thr=args.score_thr,
        tta=args.tta,
    )
