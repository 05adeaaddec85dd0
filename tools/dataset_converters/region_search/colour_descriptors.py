"""Descriptors of regions by colours and gradients, for pseudo-labels.

Shape shorthand: N regions, D = 168 numbers a region.
"""

import cv2
import numpy as np

CROP = 32  # side of the resized region in pixels
CELLS = 4  # cells a side of the gradient histogram
ORIENTATIONS = 9  # of unsigned gradients
COLOURS = 8  # bins a channel of Lab


def describe_colours(img: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Describe regions by their colours and their shape.

    The first part are histograms of the Lab channels, the second is a
    histogram of oriented gradients (Dalal and Triggs, CVPR 2005) of the
    region, resized to 32 x 32 pixels. Both have length 1, so they count alike
    in Euclidean distance.

    Args:
        img: (H, W, 3) BGR uint8 image.
        boxes: (N, 4) boxes in its pixels.

    Returns:
        (N, D) float32 descriptors.
    """
    height, width = img.shape[:2]
    rows = [np.zeros((0, 3 * COLOURS + CELLS**2 * ORIENTATIONS), np.float32)]
    for box in boxes:
        x1, y1 = np.floor(box[:2]).astype(int)
        x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
        x2, y2 = np.ceil(box[2:]).astype(int)
        crop = img[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
        crop = cv2.resize(crop, (CROP, CROP), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(crop, cv2.COLOR_BGR2LAB)
        row = np.concatenate([_colours(lab), _gradients(lab[..., 0])])
        rows.append(row[None].astype(np.float32))
    return np.concatenate(rows)


def _colours(lab: np.ndarray) -> np.ndarray:
    """Root of the channels' histograms, of length 1."""
    bins = lab // (256 // COLOURS) + np.arange(3) * COLOURS
    counts = np.bincount(bins.ravel(), minlength=3 * COLOURS)
    return np.sqrt(counts / counts.sum())


def _gradients(lightness: np.ndarray) -> np.ndarray:
    """Histogram of oriented gradients, of length 1 (0 on even surfaces)."""
    dx = cv2.Sobel(lightness, cv2.CV_32F, 1, 0)
    dy = cv2.Sobel(lightness, cv2.CV_32F, 0, 1)
    turn = np.mod(np.arctan2(dy, dx), np.pi) / np.pi * ORIENTATIONS
    cell = np.arange(CROP) * CELLS // CROP
    cell = cell[:, None] * CELLS + cell
    bins = cell * ORIENTATIONS + turn.astype(int) % ORIENTATIONS
    weights = np.hypot(dx, dy).ravel()
    counts = np.bincount(bins.ravel(), weights, CELLS**2 * ORIENTATIONS)
    for _ in range(2):  # clipped, so that one strong edge does not decide
        counts = counts / max(np.linalg.norm(counts), 1.0)
        counts = np.minimum(counts, 0.2)
    return counts / max(np.linalg.norm(counts), 1e-6)
