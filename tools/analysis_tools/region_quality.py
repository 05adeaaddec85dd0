#!/usr/bin/env python
r"""How good the boxes of region files are, with and without labels.

    python tools/analysis_tools/region_quality.py round1.json round2.json \
        --ann data/aquarium/annotations/train.json

The first 1, 5 and 10 boxes of each image count. Without labels: *agreement*,
the share of a file's first ten boxes that the first file has among its first
ten, at IoU 0.5. Give the boxes of a detector in an image and in its mirror
(propose_regions.py --detector ... --cfg-options flip=True) for its agreement
between views. With labels: *precision*, the share of the boxes that hit an
object at IoU 0.5, and *recall*, the share of the objects that are hit. They
are for analysis: no pretraining reads a label.
"""

import argparse
import json
from collections.abc import Mapping

import numpy as np
import torch
from torchvision.ops import box_iou

from mmfgl.datasets.region_file import read_region_file
from mmfgl.utils.reports import markdown_table
from mmfgl.utils.user_errors import add_debug_argument, user_errors

FIRST = (1, 5, 10)
MATCH_IOU = 0.5


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('regions', nargs='+', help='region files')
    parser.add_argument('--ann', help='COCO JSON with the labels')
    add_debug_argument(parser)
    return parser.parse_args(argv)


def read_boxes(path: str, names: list[str]) -> dict[str, np.ndarray]:
    """(N, 4) boxes of each image, the best first.

    Args:
        path: Region file.
        names: File names of the images; those that it lacks are left out.
    """
    regions = read_region_file(path)
    found = {name: regions.find(name) for name in names}
    return {
        name: np.asarray(regions.boxes[place[0]], np.float32)
        for name, place in found.items()
        if place is not None
    }


def read_coco(path: str) -> dict[str, np.ndarray]:
    """(G, 4) boxes of each image of a COCO JSON, without crowd regions.

    Raises:
        ValueError: It is none.
    """
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
        found: dict = {image['id']: [] for image in content['images']}
        for note in content['annotations']:
            if not note.get('iscrowd'):
                found[note['image_id']].append(note['bbox'])
        names = {
            image['file_name']: image['id'] for image in content['images']
        }
    except IsADirectoryError as error:
        raise ValueError(
            f'{path} holds no file names: give the images by --ann COCO.json'
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is no COCO JSON with images and annotations'
        ) from error
    objects = {}
    for name, number in names.items():
        boxes = np.array(found[number], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        objects[name] = boxes
    return objects


def hits(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(N, G) bool, which boxes hit which objects at IoU 0.5."""
    ious = box_iou(torch.from_numpy(boxes), torch.from_numpy(objects))
    return (ious >= MATCH_IOU).numpy()


def share_found(
    boxes: Mapping[str, np.ndarray],
    objects: Mapping[str, np.ndarray],
    count: int,
) -> tuple[float, float]:
    """Precision and recall of the first boxes of all images, in percent.

    Args:
        boxes: (N, 4) of each image, the best first.
        objects: (G, 4) of each image; of images in both alone.
        count: How many boxes of an image count.
    """
    right = given = found = wanted = 0
    for name in boxes.keys() & objects.keys():
        match = hits(boxes[name][:count], objects[name])
        right += match.any(axis=1).sum()
        found += match.any(axis=0).sum()
        given, wanted = given + match.shape[0], wanted + match.shape[1]
    return 100 * right / max(given, 1), 100 * found / max(wanted, 1)


def run(args: argparse.Namespace) -> str:
    """The table in Markdown.

    Raises:
        ValueError: A file is not of its format, or has none of the images.
    """
    objects = read_coco(args.ann or args.regions[0])
    files = {path: read_boxes(path, list(objects)) for path in args.regions}
    header = ['regions', 'images', 'an image', 'agreement']
    if args.ann:
        header += [f'precision of {count}' for count in FIRST]
        header += [f'recall of {count}' for count in FIRST]
    first = files[args.regions[0]].items()
    first = {name: boxes[: FIRST[-1]] for name, boxes in first}
    rows = []
    for path, boxes in files.items():
        if not boxes:
            raise ValueError(f'{path} has none of the images')
        row = [path, len(boxes)]
        row.append(sum(map(len, boxes.values())) / len(boxes))
        row.append(share_found(boxes, first, FIRST[-1])[0])
        if args.ann:
            shares = [share_found(boxes, objects, count) for count in FIRST]
            precisions, recalls = zip(*shares, strict=True)
            row += [*precisions, *recalls]
        rows.append(row)
    return markdown_table(header, rows)


def main(argv: list[str] | None = None) -> None:
    """Print the table; stop with a one-line message on a user's error."""
    args = parse_args(argv)
    with user_errors(args.debug):
        print(run(args))


if __name__ == '__main__':
    main()
