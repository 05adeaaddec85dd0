"""Maps between an image and its augmented views (NumPy, pixel frames).

A view is a crop of the image, resized to the view's size and possibly
flipped: an axis-aligned affine map, kept as a 2x3 matrix M with
``[x_view, y_view] = M @ [x_image, y_image, 1]``. Coordinates are continuous:
pixel (0, 0) covers [0, 1) x [0, 1).
"""

import numpy as np


def crop_affine(
    crop: np.ndarray, view_size: tuple[int, int], flip: bool = False
) -> np.ndarray:
    """(2, 3) float64 map of a crop, resize and left-to-right flip.

    Args:
        crop: (4,) box (x1, y1, x2, y2) in image pixels.
        view_size: (width, height) of the view in pixels.
        flip: Whether it is flipped.
    """
    scale = np.array(view_size) / (crop[2:] - crop[:2])
    affine = np.column_stack([np.diag(scale), -crop[:2] * scale])
    if flip:
        affine[0] = [0, 0, view_size[0]] - affine[0]
    return affine


def map_boxes(boxes: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(N, 4) float32 boxes of another frame, corners put in order.

    Args:
        boxes: (N, 4) boxes (x1, y1, x2, y2) in the map's source frame.
        affine: (2, 3) matrix without rotation or shear.
    """
    corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 2, 2)
    mapped = corners @ affine[:, :2].T + affine[:, 2]
    low, high = mapped.min(axis=1), mapped.max(axis=1)
    return np.concatenate([low, high], axis=1).astype(np.float32)


def clip_boxes(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, 4) boxes in view pixels, clipped to its (width, height)."""
    return np.clip(boxes, 0, np.array([*size, *size], boxes.dtype))


def visible_share(boxes: np.ndarray, window: np.ndarray) -> np.ndarray:
    """(N,) shares in [0, 1] of the areas of (N, 4) boxes in a (4,) window.

    That of an empty box is 0.
    """
    low = np.maximum(boxes[:, :2], window[:2])
    high = np.minimum(boxes[:, 2:], window[2:])
    inter = np.clip(high - low, 0, None).prod(axis=1)
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    return inter / np.maximum(area, 1e-9)
