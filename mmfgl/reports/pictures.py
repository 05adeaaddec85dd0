"""Pictures of detections beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import mmcv
import numpy as np
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from mmfgl.datasets.image_reader import read_image

#: Colours of classes, in turn: told apart in light and dark places.
COLOURS = (
    *('#4cc9f0', '#ffd166', '#ef476f', '#06d6a0', '#f78c4b', '#b892ff'),
    *('#e5f77d', '#ff9ecf', '#38b6a6', '#c9a227', '#8ecae6', '#d0d0d0'),
)
_INK = '#101418'


def class_colour(label: int) -> str:
    """The colour of a class, by its index."""
    return COLOURS[label % len(COLOURS)]


def load_picture(
    path: str, longest: int = 800
) -> tuple[np.ndarray, tuple[float, float]]:
    """Load an image at the size in which it is shown.

    Args:
        path: The image file.
        longest: Pixels of its longer side; a small image is enlarged, so that
            labels on it are readable.

    Returns:
        (H, W, 3) uint8 RGB array, and (x, y) factors from original pixels to
        its own.

    Raises:
        UnreadableImageError: It is not there, or cannot be used.
    """
    image = mmcv.bgr2rgb(read_image(path))
    height, width = image.shape[:2]
    factor = longest / max(height, width)
    size = [max(1, round(side * factor)) for side in (width, height)]
    image = mmcv.imresize(
        image, size, interpolation='area' if factor < 1 else 'bilinear'
    )
    return image, (size[0] / width, size[1] / height)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[int],
    texts: Sequence[str],
    dashed: Sequence[bool] | None = None,
) -> np.ndarray:
    """Draw labelled boxes on a copy of an image.

    Lines and letters have a dark outline, so that they can be read on any
    ground; a label goes where it hides no other, if there is such a place.

    Args:
        image: (H, W, 3) uint8 RGB array.
        boxes: (N, 4) boxes (x1, y1, x2, y2) in its pixels.
        labels: N class indices, which give the colours.
        texts: N labels.
        dashed: N flags, boxes drawn with dashed lines.

    Returns:
        (H, W, 3) uint8 RGB array.
    """
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    texts = [_one_line(text) for text in texts]
    longest = max(picture.size)
    line = max(3, round(longest / 200))
    # smaller letters where there are many boxes
    height = longest / np.interp(len(boxes), [8, 30], [40, 64])
    styles = list(zip(labels, dashed or [False] * len(boxes), strict=True))
    for box, (label, broken) in zip(boxes, styles, strict=True):
        # dark below: an outline on both sides
        _rectangle(draw, box, _INK, line + 2, broken)
        _rectangle(draw, box, class_colour(label), line, broken)
    taken: list[tuple] = []
    for box, label, text in zip(boxes, labels, texts, strict=True):
        font = _font(text, max(10, round(height)))
        place = _place(draw, box, text, font, picture.size, taken)
        taken.append(place)
        draw.rectangle(place, fill=class_colour(label), outline=_INK)
        draw.text(
            (place[0] + 3, (place[1] + place[3]) / 2),
            text,
            fill=_INK,
            font=font,
            anchor='lm',
        )
    return np.asarray(picture)


def _one_line(text: str, length: int = 40) -> str:
    """A label without line breaks and of bounded length."""
    text = ''.join(c if c.isprintable() else ' ' for c in text)
    return text if len(text) <= length else f'{text[: length - 1]}…'


def _rectangle(
    draw: ImageDraw.ImageDraw,
    box: np.ndarray,
    colour: str,
    width: int,
    dashed: bool,
) -> None:
    """The lines of a box, ``width`` pixels thick."""
    x1, y1, x2, y2 = (float(value) for value in box)
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    for (xa, ya), (xb, yb) in zip(corners, corners[1:], strict=False):
        length = max(abs(xb - xa), abs(yb - ya))
        count = max(1, round(length / 14)) if dashed else 1
        share = 0.6 if dashed else 1.0
        for part in range(count):
            start, end = part / count, (part + share) / count
            draw.line(
                [
                    (xa + start * (xb - xa), ya + start * (yb - ya)),
                    (xa + end * (xb - xa), ya + end * (yb - ya)),
                ],
                fill=colour,
                width=width,
            )


def _place(
    draw: ImageDraw.ImageDraw,
    box: np.ndarray,
    text: str,
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
    taken: Sequence[tuple],
) -> tuple[float, float, float, float]:
    """Where a label goes: inside the picture, on no other label if it can."""
    x1, y1, x2, y2 = (float(value) for value in box)
    width = draw.textlength(text, font) + 6
    height = font.size * 1.25
    spots = [
        *((x1, y1 - height), (x1, y2), (x2 - width, y1 - height)),
        *((x2 - width, y2), (x1, y1), (x1, y2 - height)),
    ]
    places = []
    for x, y in spots:
        x = min(max(x, 0.0), max(size[0] - width - 1, 0.0))
        y = min(max(y, 0.0), max(size[1] - height - 1, 0.0))
        places.append((x, y, x + width, y + height))
    return min(places, key=lambda place: sum(_common(place, t) for t in taken))


def _common(a: tuple, b: tuple) -> float:
    """Area that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def _font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """A font that has the letters of a text; DejaVu Sans, if none has."""
    letters = frozenset(map(ord, text)) - {32}
    return _load_font(_font_file(letters), size)


@lru_cache(maxsize=64)
def _load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=512)
def _font_file(letters: frozenset[int]) -> str:
    default = findfont(FontProperties(family='DejaVu Sans', weight='bold'))
    others = (entry.fname for entry in fontManager.ttflist)
    for path in (default, *sorted(others)):
        if letters <= _letters(path):
            return path
    return default


@cache
def _letters(path: str) -> frozenset[int]:
    """Code points that a font file has glyphs for; none if it is broken."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except RuntimeError:
        return frozenset()
