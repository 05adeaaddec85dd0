import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps

from mmfgl.models.layers import (
    border_overlap,
    box_area,
    normalise_boxes,
    pairwise_iou,
)

HEIGHT, WIDTH, MARGIN = 20, 40, 10


def random_boxes(count, seed=0, low=0):
    """Whole-pixel boxes on a small image; ``low`` < 0 crosses its border."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.integers(low, WIDTH - low, size=(count, 2)), axis=1)
    y = np.sort(rng.integers(low, HEIGHT - low, size=(count, 2)), axis=1)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1] + 1, y[:, 1] + 1], axis=1)
    return torch.from_numpy(boxes).float()


def paint(boxes):
    """(N, H, W) bool canvases, MARGIN pixels wider on each side."""
    y = torch.arange(-MARGIN, HEIGHT + MARGIN)[:, None] + 0.5
    x = torch.arange(-MARGIN, WIDTH + MARGIN) + 0.5
    x1, y1, x2, y2 = boxes[..., None, None].unbind(1)
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def test_overlaps_are_mmdets_and_areas_counted_pixels():
    a, b = random_boxes(12, seed=1), random_boxes(9, seed=2)
    copies = a.clone(), b.clone()
    torch.testing.assert_close(pairwise_iou(a, b), bbox_overlaps(*copies))
    assert torch.equal(a, copies[0]) and torch.equal(b, copies[1])
    assert torch.equal(box_area(a), paint(a).sum((1, 2)).float())


def test_empty_and_degenerate_boxes():
    none, some = torch.zeros(0, 4), random_boxes(3)
    assert pairwise_iou(none, some).shape == (0, 3)
    assert pairwise_iou(some, none).shape == (3, 0)
    assert border_overlap(none, (HEIGHT, WIDTH), 0.1).shape == (0,)
    for box in torch.tensor([[[5.0, 5, 5, 5]], [[9.0, 9, 2, 2]]]):
        assert box_area(box) == 0
        assert pairwise_iou(box, box) == 0
        assert not pairwise_iou(box, some).any()
        assert border_overlap(box, (HEIGHT, WIDTH), 0.4) == 0


def test_iou_gradient():
    # the intersection is computed in place; a saved tensor must not break
    boxes = random_boxes(6, seed=3, low=-MARGIN).double()
    boxes += torch.rand(6, 4, dtype=torch.double) / 10  # no ties
    boxes.requires_grad_()
    assert torch.autograd.gradcheck(
        pairwise_iou, (boxes, boxes.detach()[:4] + 0.5)
    )


@pytest.mark.parametrize('band', [0.1, 0.25])
def test_border_overlap_equals_counted_pixels(band):
    boxes = random_boxes(60, seed=4, low=-MARGIN)
    overlap = border_overlap(boxes, (HEIGHT, WIDTH), band)
    dx, dy = WIDTH * band, HEIGHT * band
    frames = [[0, 0, WIDTH, HEIGHT], [dx, dy, WIDTH - dx, HEIGHT - dy]]
    image, inner = paint(torch.tensor(frames))
    seen = paint(boxes)
    expected = (seen & image & ~inner).sum((1, 2)) / seen.sum((1, 2))
    torch.testing.assert_close(overlap, expected)
    assert (overlap > 0).any() and (overlap < 1).any()


def test_normalise_boxes():
    boxes = torch.tensor([[[0.0, 0.0, 40.0, 20.0], [10.0, 5.0, 20.0, 20.0]]])
    expected = torch.tensor([[[0, 0, 1, 1], [0.25, 0.25, 0.5, 1]]])
    # the third entry of an (H, W, C) shape is no matter
    for given in (boxes, boxes.half()):
        assert torch.equal(normalise_boxes(given, (20, 40, 3)), expected)
