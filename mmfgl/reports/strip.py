"""A picture of photographs in rows: the truth and what two tests show.

    python -m mmfgl.reports.strip TEST_A TEST_B --titles 'ImageNet' 'ReToD' \
        --images one.jpg two.jpg --out resources/detections.png

TEST_A and TEST_B are work dirs of ``tools/test.py`` on the same images, which
are named as in the annotation file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmfgl.evaluation import read_test_results
from mmfgl.reports.detections import panels
from mmfgl.reports.pictures import side_by_side, text_image

_GAP, _TITLE = 8, 40  # pixels


def picture_strip(
    dirs: Sequence[str | Path],
    images: Sequence[str],
    titles: Sequence[str],
    longest: int = 640,
) -> np.ndarray:
    """Draw the truth beside the detections of tests, one row an image.

    Args:
        dirs: Work dirs of ``tools/test.py``, on the same images.
        images: File names in the annotation file, or their last parts.
        titles: Titles of the tests' columns; the first column is the truth.
        longest: Pixels of the longer side of each photograph.

    Returns:
        (H, W, 3) uint8 RGB array. What is shown is chosen as in the report.

    Raises:
        ValueError: An image is not among those tested; tests differ in their
            images; not one title a test.
    """
    results = [read_test_results(folder) for folder in dirs]
    if len(titles) != len(results):
        raise ValueError(
            f'{len(titles)} titles for {len(results)} tests: give one each'
        )
    paths = results[0].paths
    for result in results[1:]:
        if (result.paths, result.classes) != (paths, results[0].classes):
            raise ValueError(
                f'{result.work_dir} was made on other images or classes than '
                f'{results[0].work_dir}'
            )
    rows = []
    for name in images:
        end = f'/{name}'
        found = [i for i, p in enumerate(paths) if f'/{p}'.endswith(end)]
        if len(found) != 1:
            raise ValueError(
                f'{len(found)} of the {len(paths)} images tested are named '
                f'{name}; give the file_name of one in the annotation file'
            )
        rows.append(list(panels(results, found[0], longest)))
    widths = [max(row[0].shape[1] for row in rows)] * len(rows[0])
    names = ['truth', *titles]
    pairs = zip(names, widths, strict=True)
    lines = [side_by_side([text_image(n, w, _TITLE) for n, w in pairs], _GAP)]
    for row in rows:
        padded = [_centred(p, w) for p, w in zip(row, widths, strict=True)]
        lines.append(side_by_side(padded, _GAP))
        lines.append(np.full((_GAP, lines[0].shape[1], 3), 255, np.uint8))
    return np.concatenate(lines[:-1])


def _centred(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture with white at both sides."""
    spare = width - picture.shape[1]
    sides = ((0, 0), (spare // 2, spare - spare // 2), (0, 0))
    return np.pad(picture, sides, constant_values=255)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the picture that the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('dirs', nargs='+', help='work dirs of tools/test.py')
    add('--images', nargs='+', required=True, help='names of image files')
    add('--titles', nargs='+', required=True, help='one a work dir')
    add('--out', required=True, help='PNG or JPEG file')
    args = parser.parse_args(argv)
    picture = picture_strip(args.dirs, args.images, args.titles)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(args.out)
    print(args.out)


if __name__ == '__main__':
    main()
