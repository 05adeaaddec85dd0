"""Pure box geometry: overlaps, border band, normalisation.

A box tensor is always (x1, y1, x2, y2); each function names its frame.
"""

import torch
from mmdet.structures.bbox import BaseBoxes, get_box_tensor
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """(...,) areas of (..., 4) boxes, 0 for boxes with a negative side."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def has_area(boxes: Tensor) -> Tensor:
    """(...,) bool: whether (..., 4) boxes are finite and have an inside."""
    return boxes.isfinite().all(-1) & (boxes[..., 2:] > boxes[..., :2]).all(-1)


def finite_boxes(boxes: Tensor | BaseBoxes) -> Tensor:
    """(..., 4) boxes whose NaN and infinite coordinates are 0.

    RoI operators read memory at the coordinates that they are given. Boxes of
    mmdet's types become tensors.
    """
    boxes = get_box_tensor(boxes)
    return boxes.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every pair of boxes; 0 where either is empty.

    (..., N, 4) and (..., M, 4) boxes of one frame give (..., N, M) values in
    [0, 1]. Half the memory of mmdet's ``bbox_overlaps``, which counts at 4,000
    candidates an image.
    """
    a, b = boxes1.unsqueeze(-2), boxes2.unsqueeze(-3)
    # one side at a time: a (..., N, M, 2) tensor would double the memory
    width = torch.minimum(a[..., 2], b[..., 2])
    width = width.sub_(torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)
    height = torch.minimum(a[..., 3], b[..., 3])
    height = height.sub_(torch.maximum(a[..., 1], b[..., 1])).clamp_(min=0)
    inter = width * height
    union = box_area(boxes1).unsqueeze(-1) + box_area(boxes2).unsqueeze(-2)
    least = max(1e-9, torch.finfo(inter.dtype).tiny)  # fp16 has no 1e-9
    return inter / (union - inter).clamp(min=least)


def border_overlap(
    boxes: Tensor, img_shape: tuple[int, int] | Tensor, band: float
) -> Tensor:
    """Share (...,) of each box's area in the band along the image border.

    The band is the ring between the image and the image shrunk by ``band``
    of its height and width on each side.

    Args:
        boxes: (..., 4) boxes in pixels of the image.
        img_shape: See :func:`image_sides`, in the same pixels.
        band: Width of the band as a share of the image's sides, in (0, 0.5).
    """
    sides = image_sides(boxes, img_shape)
    image = torch.cat([torch.zeros_like(sides), sides])
    shrink = torch.cat([sides, -sides]) * band

    def within(frame: Tensor) -> Tensor:
        low = torch.maximum(boxes[..., :2], frame[:2])
        high = torch.minimum(boxes[..., 2:], frame[2:])
        return box_area(torch.cat([low, high], dim=-1))

    ring = within(image) - within(image + shrink)
    return ring / box_area(boxes).clamp(min=1e-9)


def normalise_boxes(
    boxes: Tensor, img_shape: tuple[int, int] | Tensor
) -> Tensor:
    """Pixel boxes to normalised boxes (1 = the image's right / lower edge).

    (..., 4) boxes in pixels of an image of ``img_shape``, see
    :func:`image_sides`.

    Returns:
        (..., 4) fp32 normalised boxes.
    """
    boxes = boxes.float()
    return boxes / image_sides(boxes, img_shape).repeat(2)


def image_sides(boxes: Tensor, img_shape: tuple[int, int] | Tensor) -> Tensor:
    """(2,) width and height of an image, beside its boxes.

    They are filled in on the device: ``new_tensor`` copies from the host and
    waits for a GPU to come to it. ``boxes`` give dtype and device;
    ``img_shape`` is (height, width), as a (2,) tensor where a graph is traced
    for images of any shape.
    """
    if isinstance(img_shape, Tensor):
        return img_shape.flip(0).to(boxes)
    sides = boxes.new_empty(2)
    sides[0].fill_(img_shape[1])
    sides[1].fill_(img_shape[0])
    return sides
