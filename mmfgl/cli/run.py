"""Train on one's own photographs: from a folder to a detector and a report.

    mmfgl run PHOTOS LABELS.json --out DIR
    mmfgl run ROBOFLOW_EXPORT --out DIR --minutes 60

Audits and splits the data, pretrains on all photographs without labels,
fine-tunes FGL Faster R-CNN from ImageNet weights and from that pretraining at
the same budget, tests both plain and with test-time augmentation, and writes
report.html, results.json, weights, and the configs to go on from into DIR.
Started again, it skips what is done and resumes what was cut off.
"""

import argparse
from pathlib import Path

from mmfgl.recipes.budget import DEFAULT_ITERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    photos = 'folder of photographs, or of a Roboflow, YOLO or VOC data set'
    add('photos', metavar='PHOTOS', help=photos)
    labels = 'COCO JSON (or folder of labels) if PHOTOS does not hold them'
    add('labels', metavar='LABELS', nargs='?', help=labels)
    add('--out', required=True, metavar='DIR', help='folder of the run')
    val = 'COCO JSON of photographs of PHOTOS to validate on '
    val += '(default: those of the data set, else a fifth of those labelled)'
    add('--val', metavar='JSON', help=val)
    budget = parser.add_mutually_exclusive_group()
    minutes = 'length of the whole run, divided among its parts'
    budget.add_argument('--minutes', type=float, metavar='M', help=minutes)
    iters = 'iterations of pretraining and of each fine-tuning (default: '
    iters += f'{DEFAULT_ITERS["cpu"]}, or {DEFAULT_ITERS["cuda"]} on a GPU)'
    budget.add_argument('--iters', type=int, metavar='I', help=iters)
    flip = 'do not mirror images: a mirrored object is of another class, as '
    flip += 'digits and letters are'
    add('--no-flip', dest='flip', action='store_false', help=flip)
    plan = 'print the plan with expected times, and write nothing'
    add('--dry-run', action='store_true', help=plan)


def main(args: argparse.Namespace) -> None:
    """Run it."""
    from mmfgl.recipes.running import run

    run(
        args.photos,
        args.labels,
        out=Path(args.out),
        val=args.val,
        minutes=args.minutes,
        iters=args.iters,
        flip=args.flip,
        dry_run=args.dry_run,
    )
