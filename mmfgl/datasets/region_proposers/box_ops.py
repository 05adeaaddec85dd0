"""Filters of proposed boxes (NumPy, image pixels)."""

import numpy as np


def plausible_boxes(
    boxes: np.ndarray,
    img_shape: tuple[int, int],
    min_side: float = 0.03,
    max_area: float = 0.6,
    max_aspect: float = 4.0,
) -> np.ndarray:
    """Boxes whose size and shape could be an object's.

    Args:
        boxes: (N, 4) boxes in image pixels.
        img_shape: (height, width) of the image.
        min_side: Least side as a share of the image's shorter side.
        max_area: Largest area as a share of the image's.
        max_aspect: Largest ratio of the longer side to the shorter one.

    Returns:
        (N,) bool, True for the boxes to keep.
    """
    height, width = img_shape[:2]
    sides = boxes[:, 2:] - boxes[:, :2]
    least, most = sides.min(axis=1), sides.max(axis=1)
    keep = least >= max(min_side * min(height, width), 1e-6)
    keep &= sides.prod(axis=1) <= max_area * height * width
    return keep & (most <= max_aspect * least)


def first_distinct(
    boxes: np.ndarray, max_iou: float, max_num: int | None = None
) -> np.ndarray:
    """Walk through ranked boxes and leave out near-duplicates.

    Args:
        boxes: (N, 4) boxes, the best first.
        max_iou: A box that overlaps a kept one more than this is left out.
        max_num: Largest number of boxes to keep, ``None`` for all.

    Returns:
        (M,) int indices of the kept boxes, in order.
    """
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    alive = np.ones(len(boxes), dtype=bool)
    kept: list[int] = []
    for index, box in enumerate(boxes):
        if max_num is not None and len(kept) >= max_num:
            break
        if not alive[index]:
            continue
        kept.append(index)
        low = np.maximum(boxes[:, :2], box[:2])
        high = np.minimum(boxes[:, 2:], box[2:])
        inter = np.clip(high - low, 0, None).prod(axis=1)
        union = areas + areas[index] - inter
        alive &= inter <= max_iou * np.maximum(union, 1e-9)
    return np.array(kept, dtype=np.int64)
