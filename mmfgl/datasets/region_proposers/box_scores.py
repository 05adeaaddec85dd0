"""How much boxes look like objects, by colour and edges alone.

Shape shorthand: N boxes, C colours that occur in the image.
"""

import cv2
import numpy as np


def objectness(img: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Score boxes by how far their inside differs from what is around them.

    The mean of two ranks within the image: of the colour contrast between a
    box and the ring around it (after the cue *CC* of Alexe et al., TPAMI
    2012), and of the share of edges that lies inside and not in the ring.
    Being ranks, scores compare boxes of one image only.

    Args:
        img: (H, W, 3) BGR uint8 image; about 256 pixels a side are enough.
        boxes: (N, 4) boxes in pixels of that image.

    Returns:
        (N,) float64 scores in [0, 1].
    """
    lab = cv2.cvtColor(img, cv2.COLOR_BGR2LAB)
    inner, outer = _with_ring(boxes, img.shape[:2])
    cues = (_colour_contrast, _edge_share)
    return sum(_rank(cue(lab, inner, outer)) for cue in cues) / 2


def _colour_contrast(
    lab: np.ndarray, inner: np.ndarray, outer: np.ndarray
) -> np.ndarray:
    """(N,) chi-square distances of the colours of boxes and of their rings.

    0 for equal colours, 1 for disjoint ones. ``lab`` is an (H, W, 3) uint8
    image, ``inner`` (N, 4) int boxes, ``outer`` boxes that contain them.
    """
    bins = lab[..., 0].astype(np.int32) // 32 * 64
    tint = np.clip((lab[..., 1:].astype(np.int32) - 96) // 8, 0, 7)
    bins += tint[..., 0] * 8 + tint[..., 1]
    colours, bins = np.unique(bins, return_inverse=True)
    bins = bins.reshape(lab.shape[:2])
    inside, whole = [], []
    for colour in range(len(colours)):
        sums = cv2.integral((bins == colour).view(np.uint8))
        inside.append(_box_sums(sums, inner))
        whole.append(_box_sums(sums, outer))
    inside = np.stack(inside, axis=1)  # (N, C)
    ring = np.stack(whole, axis=1) - inside
    inside = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
    ring = ring / np.maximum(ring.sum(axis=1, keepdims=True), 1)
    total = inside + ring
    distance = (inside - ring) ** 2 / np.maximum(total, 1e-12)
    return distance.sum(axis=1) / 2


def _edge_share(
    lab: np.ndarray, inner: np.ndarray, outer: np.ndarray
) -> np.ndarray:
    """(N,) edge densities of boxes over those of box and ring together.

    Shares in [0, 1): 0.5 where inside and ring are alike. Arguments as for
    the colours.
    """
    edges = np.zeros(lab.shape[:2], np.float32)
    for channel in cv2.split(lab):
        dx = cv2.Sobel(channel, cv2.CV_32F, 1, 0)
        dy = cv2.Sobel(channel, cv2.CV_32F, 0, 1)
        edges = np.maximum(edges, cv2.magnitude(dx, dy))
    sums = cv2.integral(edges, sdepth=cv2.CV_64F)
    area, whole = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (inner, outer))
    inside = _box_sums(sums, inner)
    ring = (_box_sums(sums, outer) - inside) / np.maximum(whole - area, 1)
    inside = inside / np.maximum(area, 1)
    return inside / (inside + ring + 1)


def _with_ring(
    boxes: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 4) int boxes, and those boxes grown by a quarter of their sides."""
    limits = np.array([size[1], size[0]] * 2)
    inner = np.clip(np.round(boxes), 0, limits).astype(np.int64)
    inner[:, :2] = np.minimum(inner[:, :2], limits[:2] - 1)
    inner[:, 2:] = np.maximum(inner[:, 2:], inner[:, :2] + 1)
    sides = inner[:, 2:] - inner[:, :2]
    pad = np.maximum(2, np.round(sides / 4)).astype(np.int64)
    outer = np.concatenate([inner[:, :2] - pad, inner[:, 2:] + pad], axis=1)
    return inner, np.clip(outer, 0, limits)


def _box_sums(sums: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(N,) sums inside int boxes, from an integral image (H + 1, W + 1)."""
    x1, y1, x2, y2 = boxes.T
    return sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]


def _rank(values: np.ndarray) -> np.ndarray:
    """(N,) ranks, 0 for the least value and 1 for the largest."""
    order = np.argsort(np.argsort(values, kind='stable'), kind='stable')
    return order / max(1, len(values) - 1)
