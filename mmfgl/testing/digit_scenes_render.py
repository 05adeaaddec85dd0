"""Render digit scenes: handwritten digits pasted onto photographs.

H, W: size of the scene in pixels. Images are BGR.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmfgl.testing.digit_scenes_sources import load_backgrounds, load_digits_of

MIN_VISIBLE = 0.55  # share of a digit's own pixels that must stay visible
MAX_BOX_IOU = 0.3  # digits of one size on one spot hide each other's class
MAX_ANGLE = 25.0  # degrees; keeps 6 and 9 apart
MIN_CONTRAST = 40.0  # CIE Lab units, see pick_colour
HEIGHTS = (18.0, 140.0)  # digit height in pixels at a short side of 240


@dataclass
class Instance:
    """One digit of a scene."""

    label: int  # the digit, 0..9
    full_area: int  # pixels of the whole digit, hidden ones included
    visible: np.ndarray  # (H, W) bool, the pixels that can be seen

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tight (x, y, width, height) of the visible pixels."""
        return cv2.boundingRect(self.visible.view(np.uint8))


def _background(rng, pictures, width: int, height: int) -> np.ndarray:
    """(height, width, 3) float32 BGR part of a random picture, recoloured."""
    picture = pictures[rng.integers(len(pictures))]
    limit = min(picture.shape[1] / width, picture.shape[0] / height)
    zoom = limit * rng.uniform(0.5, 1.0)
    cut_w, cut_h = max(1, int(width * zoom)), max(1, int(height * zoom))
    x = rng.integers(picture.shape[1] - cut_w + 1)
    y = rng.integers(picture.shape[0] - cut_h + 1)
    crop = picture[y : y + cut_h, x : x + cut_w]
    if rng.random() < 0.5:
        crop = np.ascontiguousarray(crop[:, ::-1])
    how = cv2.INTER_AREA if zoom > 1 else cv2.INTER_CUBIC
    canvas = cv2.resize(crop, (width, height), interpolation=how)
    canvas = canvas.astype(np.float32) / 255
    canvas **= np.float32(rng.uniform(0.7, 1.4))
    canvas *= rng.uniform(0.75, 1.15, 3).astype(np.float32)
    return np.clip(canvas * 255, 0, 255)


def render_digit(rng, digit: np.ndarray, height: float) -> np.ndarray:
    """Turn an 8x8 digit into a smooth, antialiased opacity patch.

    It is upsampled cubically, warped (rotation, shear, aspect), and only then
    thresholded, with an edge about one target pixel wide, so that strokes are
    sharp at every size.

    Args:
        rng: Source of randomness.
        digit: (8, 8) float32 in [0, 1].
        height: Height of the digit before rotation, in pixels.

    Returns:
        (h, w) float32 opacity in [0, 1], cut tightly.
    """
    cell = 16
    size = (12 * cell, 12 * cell)  # 2 empty cells around the digit
    field = cv2.resize(np.pad(digit, 2), size, interpolation=cv2.INTER_CUBIC)
    field = cv2.GaussianBlur(field, (0, 0), cell * 0.25)
    scale = height / (8 * cell)
    angle = np.deg2rad(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    aspect, shear = rng.uniform(0.85, 1.2), rng.uniform(-0.15, 0.15)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    matrix = turn @ np.array([[aspect, shear], [0.0, 1.0]]) * scale
    side = int(np.ceil(height * 2.0)) + 4
    offset = (side - 1) / 2 - matrix @ np.full(2, (12 * cell - 1) / 2)
    warp = np.column_stack([matrix, offset])
    field = cv2.warpAffine(field, warp, (side, side))
    threshold = rng.uniform(0.42, 0.56)  # pen width
    edge = np.clip(10.0 / height, 0.08, 0.3)
    alpha = np.clip((field - threshold) / edge + 0.5, 0, 1)
    x, y, w, h = cv2.boundingRect((alpha > 0.02).view(np.uint8))
    return alpha[y : y + h, x : x + w]


def pick_colour(rng, under: np.ndarray) -> np.ndarray:
    """(3,) random colour that stands out from the pixels under a digit.

    The first of twenty whose Lab distance to at least 80 % of the (n, 3)
    pixels reaches MIN_CONTRAST, else the best of them, black and white.
    Chroma counts half: hue alone is a weak cue. All BGR float32 in [0, 255].
    """
    limits = ((0, 360), (0.2, 1.0), (0.15, 1.0))
    hsv = np.float32([rng.uniform(*limit, 20) for limit in limits]).T
    colours = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR)[0]
    colours = np.r_[colours, np.float32([[0.03] * 3, [0.97] * 3])]
    weights = np.float32([1.0, 0.5, 0.5])
    under = np.ascontiguousarray(under[:: max(1, len(under) // 256)] / 255)
    lab = cv2.cvtColor(under[None], cv2.COLOR_BGR2LAB)[0] * weights
    candidates = cv2.cvtColor(colours[None], cv2.COLOR_BGR2LAB)[0] * weights
    distances = np.linalg.norm(candidates[:, None] - lab[None], axis=-1)
    scores = np.percentile(distances, 20, axis=1)
    # argmax gives the first of those that are good enough
    return colours[np.minimum(scores, MIN_CONTRAST).argmax()] * 255


def _paint(rng, canvas: np.ndarray, alpha: np.ndarray) -> None:
    """Paint a digit of opacity ``alpha`` (H, W) into ``canvas``, in place."""
    colour = pick_colour(rng, canvas[alpha > 0.5])
    if rng.random() < 0.4:
        shift = np.float32(np.c_[np.eye(2), rng.uniform(1, 4, 2)])
        shadow = cv2.GaussianBlur(alpha, (0, 0), 2.0)
        shadow = cv2.warpAffine(shadow, shift, alpha.shape[::-1])
        canvas *= 1 - 0.5 * shadow[..., None]
    ramp = np.linspace(1, rng.uniform(0.8, 1.0), len(alpha), dtype=np.float32)
    opacity = (alpha * rng.uniform(0.9, 1.0)).astype(np.float32)[..., None]
    canvas *= 1 - opacity
    canvas += opacity * (colour * ramp[:, None, None])


def _layer(rng, alpha, instances, width, height):
    """(H, W) float32 layer with an opacity patch at a random position.

    Every fifth digit goes near an earlier one, so that overlap stays common.
    ``None`` if it does not fit there: too much cut by the border, an earlier
    digit hidden too much, or its box nearly the same.
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
    box = np.array([Instance(0, 0, ink).box], float)
    for old in instances:
        if (old.visible & ~ink).sum() < MIN_VISIBLE * old.full_area:
            return None
        if coco_mask.iou(box, np.array([old.box], float), [0]) > MAX_BOX_IOU:
            return None
    return layer


def render_scene(
    rng: np.random.Generator, split: str, width: int, height: int
) -> tuple[np.ndarray, list[Instance]]:
    """Render one scene of two to eight digits.

    A digit that would be cut or hide an earlier one too much is drawn again
    and smaller, so at least MIN_VISIBLE of every digit is in view.

    Args:
        rng: Source of randomness; the scene depends on nothing else.
        split: 'train' or 'val', the pool of digits and backgrounds.
        width: Width W in pixels.
        height: Height H in pixels.

    Returns:
        The (H, W, 3) uint8 BGR image and its instances, back to front.
    """
    digits = load_digits_of(split)
    canvas = _background(rng, load_backgrounds(split), width, height)
    instances: list[Instance] = []
    largest = HEIGHTS[1] / 240 * min(width, height)
    smallest = min(HEIGHTS[0], largest / 2)
    for _ in range(rng.integers(2, 9)):
        label = int(rng.integers(10))
        digit = digits[label][rng.integers(len(digits[label]))]
        size = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
        for _ in range(20):
            alpha = render_digit(rng, digit, size)
            layer = _layer(rng, alpha, instances, width, height)
            if layer is not None:
                ink = layer > 0.5
                for old in instances:
                    old.visible &= ~ink
                instances.append(Instance(label, (alpha > 0.5).sum(), ink))
                _paint(rng, canvas, layer)
                break
            size = max(smallest, size * 0.9)
    ramp = np.linspace(*rng.uniform(0.8, 1.1, 2), width, dtype=np.float32)
    canvas *= ramp[:, None]
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 0.8))
    noise = rng.standard_normal(canvas.shape, dtype=np.float32)
    canvas += noise * np.float32(rng.uniform(0, 5))
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8), instances
