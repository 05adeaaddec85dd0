"""Pictures of boxes that an audit found odd."""

from __future__ import annotations

import os.path as osp
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from mmfgl.utils.audit.report import AuditReport

SIDE = 640  # pixels of the longer side of an image
BORDER = 160  # pixels around it, where boxes that leave it show
RED, GREY = (220, 30, 30), (200, 200, 200)


def draw_odd_boxes(
    report: AuditReport, folder: str, out: str, number: int
) -> list[str]:
    """Draw the first odd boxes, a picture an image.

    Args:
        report: Findings about an annotation file.
        folder: Folder of its images.
        out: Folder of the pictures, ``NUMBER_NAME.png``.
        number: How many pictures at most.

    Returns:
        Paths of the pictures.
    """
    groups: dict[object, list[tuple[str, dict]]] = {}
    for reason, ann in report.odd:
        if ann['image_id'] in report.images:
            groups.setdefault(ann['image_id'], []).append((reason, ann))
    paths = []
    first = list(groups.items())[:number]
    for index, (image_id, odd) in enumerate(first):
        name = report.images[image_id]['file_name']
        try:
            with Image.open(osp.join(folder, name)) as file:
                image = ImageOps.exif_transpose(file).convert('RGB')
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        stem = osp.splitext(osp.basename(name))[0]
        path = Path(out) / f'{index:03d}_{stem}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        _draw(image, odd).save(path)
        paths.append(str(path))
    return paths


def _draw(image: Image.Image, odd: list[tuple[str, dict]]) -> Image.Image:
    """The image in a grey border, with boxes (x, y, w, h) and reasons."""
    scale = SIDE / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    canvas = Image.new('RGB', [side + 2 * BORDER for side in size], GREY)
    canvas.paste(image.resize(size), (BORDER, BORDER))
    draw = ImageDraw.Draw(canvas)
    for reason, ann in odd:
        x, y, width, height = ann['bbox']
        ends = (x, x + width), (y, y + height)
        # beyond the border there is nothing to see
        (left, right), (top, bottom) = (
            sorted(min(max(v * scale + BORDER, 1), limit - 2) for v in end)
            for end, limit in zip(ends, canvas.size, strict=True)
        )
        draw.rectangle((left, top, right, bottom), outline=RED, width=2)
        text = f'annotation {ann["id"]}: {reason}'.split(' (')[0]
        draw.text((left + 3, max(top - 12, 0)), text, fill=RED)
    return canvas
