"""Pure box geometry: overlaps, border band, normalisation, jitter.

A box tensor is always (x1, y1, x2, y2); each function names its frame.
"""

import torch
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """Areas of boxes; boxes with negative sides count as empty.

    Args:
        boxes: (..., 4) boxes, any frame.

    Returns:
        (...,) areas in squared units of the frame.
    """
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def pairwise_intersection(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection areas of every pair of boxes.

    Args:
        boxes1: (..., N, 4) boxes, any one frame.
        boxes2: (..., M, 4) boxes of the same frame.

    Returns:
        (..., N, M) areas.
    """
    a, b = boxes1.unsqueeze(-2), boxes2.unsqueeze(-3)
    # one side at a time: a (..., N, M, 2) tensor would double the memory,
    # which counts at 4,000 candidates an image
    width = torch.minimum(a[..., 2], b[..., 2])
    width = width.sub_(torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)
    height = torch.minimum(a[..., 3], b[..., 3])
    height = height.sub_(torch.maximum(a[..., 1], b[..., 1])).clamp_(min=0)
    return width * height


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every pair of boxes; 0 where both are empty.

    Args:
        boxes1: (..., N, 4) boxes, any one frame.
        boxes2: (..., M, 4) boxes of the same frame.

    Returns:
        (..., N, M) values in [0, 1].
    """
    inter = pairwise_intersection(boxes1, boxes2)
    union = (
        box_area(boxes1).unsqueeze(-1) + box_area(boxes2).unsqueeze(-2) - inter
    )
    return inter / union.clamp(min=1e-9)


def border_overlap(
    boxes: Tensor,
    img_shape: tuple[int, int],
    band: float = 0.05,
    mode: str = 'iof',
) -> Tensor:
    """How much each box overlaps the band along the image border.

    The band is the ring between the image and the image shrunk by ``band``
    of its height and width on each side. Small boxes always have an IoU near
    0 with so large a ring, so the overlap is measured over the box's own area
    by default (``'iof'``); ``'iou'`` is the plain intersection over union.

    Args:
        boxes: (..., 4) boxes in pixels of the image.
        img_shape: (height, width) of the image in the same pixels.
        band: Width of the band as a share of the image's sides, in (0, 0.5).
        mode: ``'iof'`` or ``'iou'``.

    Returns:
        (...,) overlaps in [0, 1].

    Raises:
        ValueError: If ``mode`` or ``band`` is out of range.
    """
    if mode not in ('iof', 'iou'):
        raise ValueError(f"mode must be 'iof' or 'iou', got {mode!r}")
    if not 0 < band < 0.5:
        raise ValueError(f'band must lie in (0, 0.5), got {band}')
    height, width = img_shape[:2]
    image = boxes.new_tensor([0, 0, width, height])
    shrink = boxes.new_tensor([width, height, -width, -height]) * band
    inside = torch.cat(
        [
            torch.maximum(boxes[..., :2], image[:2]),
            torch.minimum(boxes[..., 2:], image[2:]),
        ],
        dim=-1,
    )
    inner = image + shrink
    core = torch.cat(
        [
            torch.maximum(boxes[..., :2], inner[:2]),
            torch.minimum(boxes[..., 2:], inner[2:]),
        ],
        dim=-1,
    )
    inter = box_area(inside) - box_area(core)
    area = box_area(boxes)
    if mode == 'iof':
        return inter / area.clamp(min=1e-9)
    ring = box_area(image) - box_area(inner)
    return inter / (area + ring - inter).clamp(min=1e-9)


def normalise_boxes(boxes: Tensor, img_shape: tuple[int, int]) -> Tensor:
    """Pixel boxes to normalised boxes (1 = the image's right / lower edge).

    Args:
        boxes: (..., 4) boxes in pixels of the image.
        img_shape: (height, width) of the image in the same pixels.

    Returns:
        (..., 4) normalised boxes.
    """
    height, width = img_shape[:2]
    return boxes / boxes.new_tensor([width, height, width, height])
