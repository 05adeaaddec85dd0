"""Descriptors of regions by colours and gradients, for pseudo-labels.

Shape shorthand: N regions, D = 168 numbers a region.
"""

import cv2
import numpy as np

SIDE = 32  # of the resized region in pixels
BINS = 8  # a channel of Lab
# One block of 4 x 4 cells, 9 orientations of unsigned gradients.
HOG = cv2.HOGDescriptor((SIDE, SIDE), (SIDE, SIDE), (8, 8), (8, 8), 9)


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
    rows = np.zeros((len(boxes), 3 * BINS + HOG.getDescriptorSize()))
    for row, box in zip(rows, boxes, strict=True):
        x1, y1 = np.floor(box[:2]).astype(int)
        x1, y1 = min(max(x1, 0), width - 1), min(max(y1, 0), height - 1)
        x2, y2 = np.ceil(box[2:]).astype(int)
        crop = img[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
        crop = cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(crop, cv2.COLOR_BGR2LAB)
        bins = lab // (256 // BINS) + np.arange(3) * BINS
        counts = np.bincount(bins.ravel(), minlength=3 * BINS)
        row[: 3 * BINS] = np.sqrt(counts / counts.sum())
        row[3 * BINS :] = HOG.compute(lab[..., 0]).ravel()
    return rows.astype(np.float32)
