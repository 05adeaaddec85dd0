"""Render digit scenes: handwritten digits composited onto photographs.

Shapes: ``H, W`` scene size in pixels; images are BGR; masks are ``(H, W)``
bool; every coordinate is in scene pixels.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmfgl.testing.digit_scenes_sources import load_backgrounds, load_digits_of

MIN_VISIBLE = 0.55  # share of a digit's own pixels that must stay visible
MAX_BOX_IOU = 0.3  # digits of one size on one spot hide each other's class
MAX_ANGLE = 25.0  # degrees; keeps 6 and 9 apart
MIN_CONTRAST = 40.0  # CIE Lab units, see pick_colour
HEIGHTS = (18.0, 140.0)  # digit height in pixels at a short side of 240


@dataclass
class Instance:
    """One digit of a scene.

    Attributes:
        label: The digit, 0..9.
        full_area: Pixels of the whole digit, hidden ones included.
        visible: (H, W) bool, the pixels that can be seen.
    """

    label: int
    full_area: int
    visible: np.ndarray


def random_background(rng, pictures, width: int, height: int) -> np.ndarray:
    """Cut, flip and recolour a random part of a random picture.

    Returns:
        (height, width, 3) float32 BGR canvas in [0, 255].
    """
    picture = pictures[rng.integers(len(pictures))]
    limit = min(picture.shape[1] / width, picture.shape[0] / height)
    zoom = limit * rng.uniform(0.5, 1.0)
    cut_w = max(1, int(width * zoom))
    cut_h = max(1, int(height * zoom))
    x = rng.integers(picture.shape[1] - cut_w + 1)
    y = rng.integers(picture.shape[0] - cut_h + 1)
    crop = picture[y : y + cut_h, x : x + cut_w]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    # INTER_AREA averages when shrinking (no aliasing), cubic is smooth when
    # the crop is smaller than the scene.
    how = cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(
        np.ascontiguousarray(crop), (width, height), interpolation=how
    )
    canvas = np.clip(canvas.astype(np.float32) / 255, 0, 1)
    canvas **= np.float32(rng.uniform(0.7, 1.4))
    canvas *= rng.uniform(0.75, 1.15, 3).astype(np.float32)
    return np.clip(canvas * 255, 0, 255)


def render_digit(rng, digit: np.ndarray, height: float) -> np.ndarray:
    """Turn an 8x8 digit into a smooth, antialiased opacity patch.

    The grey levels are a band-limited field: it is upsampled cubically,
    warped (rotation, shear, aspect), and only then thresholded, with an edge
    about one target pixel wide, so that strokes are sharp at every size.

    Args:
        rng: ``numpy.random.Generator``.
        digit: (8, 8) float32 in [0, 1].
        height: Height of the digit before rotation, in pixels.

    Returns:
        (h, w) float32 opacity in [0, 1], cut tightly.
    """
    cell = 16
    field = cv2.resize(
        np.pad(digit, 2),
        None,
        fx=cell,
        fy=cell,
        interpolation=cv2.INTER_CUBIC,
    )
    field = cv2.GaussianBlur(field, (0, 0), cell * 0.25)
    scale = height / (8 * cell)
    angle = np.deg2rad(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    aspect, shear = rng.uniform(0.85, 1.2), rng.uniform(-0.15, 0.15)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    matrix = turn @ np.array([[aspect, shear], [0.0, 1.0]]) * scale
    side = int(np.ceil(height * 2.0)) + 4
    source_centre = np.full(2, (field.shape[0] - 1) / 2)
    offset = (side - 1) / 2 - matrix @ source_centre
    field = cv2.warpAffine(
        field, np.column_stack([matrix, offset]), (side, side)
    )
    threshold = rng.uniform(0.42, 0.56)  # pen width
    edge = np.clip(10.0 / height, 0.08, 0.3)
    alpha = np.clip((field - threshold) / edge + 0.5, 0, 1)
    ys, xs = np.nonzero(alpha > 0.02)
    return alpha[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


def pick_colour(rng, under: np.ndarray) -> np.ndarray:
    """Draw a random colour that stands out from what lies under a digit.

    Twenty colours are drawn; the first whose Lab distance to at least 80 %
    of the covered pixels reaches MIN_CONTRAST wins, else the best of all
    (black and white included).  Chroma counts half: hue alone is a weak cue.

    Args:
        rng: ``numpy.random.Generator``.
        under: (n, 3) float32 BGR pixels in [0, 255].

    Returns:
        (3,) float32 BGR colour in [0, 255].
    """
    hsv = np.stack(
        [
            rng.uniform(0, 360, 20),
            rng.uniform(0.2, 1.0, 20),
            rng.uniform(0.15, 1.0, 20),
        ],
        axis=-1,
    ).astype(np.float32)
    colours = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR)[0]
    colours = np.concatenate(
        [colours, np.array([[0.03] * 3, [0.97] * 3], np.float32)]
    )
    weights = np.array([1.0, 0.5, 0.5], np.float32)
    under = np.ascontiguousarray(under[:: max(1, len(under) // 256)] / 255)
    lab = cv2.cvtColor(under[None], cv2.COLOR_BGR2LAB)[0] * weights
    candidates = cv2.cvtColor(colours[None], cv2.COLOR_BGR2LAB)[0] * weights
    distances = np.linalg.norm(candidates[:, None] - lab[None], axis=-1)
    scores = np.percentile(distances, 20, axis=1)
    good = np.flatnonzero(scores >= MIN_CONTRAST)
    best = good[0] if len(good) else int(scores.argmax())
    return colours[best] * 255


def paste(rng, canvas: np.ndarray, alpha: np.ndarray) -> None:
    """Paint a digit with shadow and shading into ``canvas``, in place.

    Args:
        rng: ``numpy.random.Generator``.
        canvas: (H, W, 3) float32 BGR in [0, 255].
        alpha: (H, W) float32 opacity of the digit.
    """
    colour = pick_colour(rng, canvas[alpha > 0.5])
    if rng.random() < 0.4:
        shift = rng.uniform(1, 4, 2)
        shadow = cv2.warpAffine(
            cv2.GaussianBlur(alpha, (0, 0), 2.0),
            np.float32([[1, 0, shift[0]], [0, 1, shift[1]]]),
            alpha.shape[::-1],
        )
        canvas *= 1 - 0.5 * shadow[..., None]
    ramp = np.linspace(1, rng.uniform(0.8, 1.0), len(alpha), dtype=np.float32)
    opacity = (alpha * rng.uniform(0.9, 1.0)).astype(np.float32)[..., None]
    canvas *= 1 - opacity
    canvas += opacity * (colour * ramp[:, None, None])


def visible_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight box of a mask.

    Args:
        mask: (H, W) bool with at least one True.

    Returns:
        (x1, y1, x2, y2) in pixels, the right and lower edges exclusive.
    """
    xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def _box_iou(a, b) -> float:
    """IoU of two (x1, y1, x2, y2) boxes in pixels."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    area_a = (a[2] - a[0]) * (a[3] - a[1])
    area_b = (b[2] - b[0]) * (b[3] - b[1])
    return inter / (area_a + area_b - inter)


def _place(rng, alpha, instances, width, height):
    """Put an opacity patch at a random place of an empty scene layer.

    Every fifth digit goes near an earlier one, so that overlap
    stays common.

    Returns:
        (H, W) float32 layer, or None if the place is not acceptable: too
        much cut by the border, or an earlier digit hidden too much, or its
        box nearly the same.
    """
    h, w = alpha.shape
    if instances and rng.random() < 0.2:
        ys, xs = np.nonzero(instances[rng.integers(len(instances))].visible)
        centre = np.array([xs.mean(), ys.mean()])
        centre += rng.uniform(-0.8, 0.8, 2) * (w, h)
    else:
        centre = rng.uniform(0, 1, 2) * (width, height)
    x, y = np.round(centre - np.array([w, h]) / 2).astype(int)
    x1, y1 = max(x, 0), max(y, 0)
    x2, y2 = min(x + w, width), min(y + h, height)
    if x2 <= x1 or y2 <= y1:
        return None
    layer = np.zeros((height, width), np.float32)
    layer[y1:y2, x1:x2] = alpha[y1 - y : y2 - y, x1 - x : x2 - x]
    ink = layer > 0.5
    if ink.sum() < MIN_VISIBLE * (alpha > 0.5).sum():
        return None
    box = visible_box(ink)
    for old in instances:
        if (old.visible & ~ink).sum() < MIN_VISIBLE * old.full_area:
            return None
        if _box_iou(box, visible_box(old.visible)) > MAX_BOX_IOU:
            return None
    return layer


def render_scene(
    rng: np.random.Generator, split: str, width: int, height: int
) -> tuple[np.ndarray, list[Instance]]:
    """Render one scene of two to eight digits.

    A place where the new digit would be cut too much, or would hide an
    earlier one too much, is refused and drawn again with a smaller digit, so
    every digit that can be seen at all is annotated, and at least
    MIN_VISIBLE of it is in view.

    Args:
        rng: ``numpy.random.Generator``; the scene depends on nothing else.
        split: 'train' or 'val', the pool of digits and backgrounds.
        width: Scene width in pixels.
        height: Scene height in pixels.

    Returns:
        The (H, W, 3) uint8 BGR image and its instances, back to front.
    """
    digits = load_digits_of(split)
    canvas = random_background(rng, load_backgrounds(split), width, height)
    instances: list[Instance] = []
    largest = HEIGHTS[1] / 240 * min(width, height)
    smallest = min(HEIGHTS[0], largest / 2)
    for _ in range(rng.integers(2, 9)):
        label = int(rng.integers(10))
        digit = digits[label][rng.integers(len(digits[label]))]
        size = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
        for _ in range(20):
            alpha = render_digit(rng, digit, size)
            layer = _place(rng, alpha, instances, width, height)
            if layer is not None:
                ink = layer > 0.5
                for old in instances:
                    old.visible &= ~ink
                full_area = int((alpha > 0.5).sum())
                instances.append(Instance(label, full_area, ink))
                paste(rng, canvas, layer)
                break
            size = max(smallest, size * 0.9)
    ramp = np.linspace(*rng.uniform(0.8, 1.1, 2), width, dtype=np.float32)
    canvas *= ramp[:, None]
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(canvas.shape, dtype=np.float32)
    canvas += noise * np.float32(rng.uniform(0, 5))
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), instances
