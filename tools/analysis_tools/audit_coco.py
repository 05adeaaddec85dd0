#!/usr/bin/env python
r"""Audit COCO annotations and their images: is this what was meant?

    python tools/analysis_tools/audit_coco.py ANN IMAGES
    python tools/analysis_tools/audit_coco.py \
        data/aquarium/annotations/train.json data/aquarium/train \
        data/aquarium/annotations/val.json data/aquarium/val --out audit

ANN is a COCO JSON, IMAGES the folder of its images; of several pairs, images
that are in two of them are reported, too. Prints a table; what is called
'repair' tools/train.py and tools/test.py do by themselves. With --out, odd
boxes are drawn, and the mended annotations are written there. No pixels are
read for the table. The exit status is 1 if there are errors or warnings.
"""

import argparse
import itertools
import os.path as osp
import sys
from pathlib import Path

from mmfgl.utils.audit import (
    AuditReport,
    Use,
    audit_coco,
    shared_images,
    write_mended,
)
from mmfgl.utils.audit.pictures import draw_odd_boxes
from mmfgl.utils.formats.base import find_images
from mmfgl.utils.user_errors import add_debug_argument, user_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('pairs', nargs='+', metavar='ANN IMAGES', help='files and folders')
    add('--classes', nargs='+', help='names in use (default: all)')
    add('--masks', action='store_true', help='every object needs a mask')
    add('--out', help='folder of pictures of odd boxes, a folder a file')
    add('--pictures', type=int, default=16, help='at most so many a file')
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    if len(args.pairs) % 2:
        parser.error('give an annotation file and an image folder each')
    args.pairs = list(zip(args.pairs[::2], args.pairs[1::2], strict=True))
    return args


def audit(args: argparse.Namespace, ann: str, folder: str) -> AuditReport:
    """Audit one file; prints its table."""
    classes = tuple(args.classes) if args.classes else None
    use = Use(ann, folder, classes, masks=args.masks)
    content, report = audit_coco(use)
    failed = bool(report.findings('error'))
    if not failed:
        listed = {osp.normpath(i['file_name']) for i in content['images']}
        for name in sorted({*find_images(folder)} - listed):
            text = 'files of the folder that are no image of the JSON'
            report.add('note', text, repr(name))
    print('\n' + (report.path if failed else report.summary()))
    for finding in report.findings():
        print(f'  {finding.level:8} {finding}')
    if args.out:
        stem = Path(ann).stem
        if [Path(a).stem for a, _ in args.pairs].count(stem) > 1:
            # Roboflow's files differ by their folders alone
            number = args.pairs.index((ann, folder)) + 1
            stem = f'{number}_{Path(ann).absolute().parent.name}_{stem}'
        out = osp.join(args.out, stem)
        found = draw_odd_boxes(report, folder, out, args.pictures)
        if found:
            print(f'  {len(found)} pictures of odd boxes in {out}')
        if report.findings('repair') and not failed:
            print(f'  mended: {write_mended(content, ann, args.out)}')
    return report


def main(argv: list[str] | None = None) -> None:
    """Print a table a file; ends with status 1 if something is odd."""
    args = parse_args(argv)
    with user_errors(args.debug):
        reports = [audit(args, ann, folder) for ann, folder in args.pairs]
    odd = any(report.findings('error', 'warning') for report in reports)
    for one, other in itertools.combinations(reports, 2):
        for pair in shared_images(one.headers, other.headers):
            odd = True
            print(f'  warning  one image in two sets: {" and ".join(pair)}')
    sys.exit(int(odd))


if __name__ == '__main__':
    main()
