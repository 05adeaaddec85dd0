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
    """Whole-pixel boxes on the small canvas; ``low`` < 0 crosses its border.

    Whole numbers make areas exact, so that pixels can be counted.
    """
    rng = np.random.default_rng(seed)
    x = np.sort(rng.integers(low, WIDTH - low, size=(count, 2)), axis=1)
    y = np.sort(rng.integers(low, HEIGHT - low, size=(count, 2)), axis=1)
    boxes = np.stack([x[:, 0], y[:, 0], x[:, 1] + 1, y[:, 1] + 1], axis=1)
    return torch.from_numpy(boxes).float()


def paint(box):
    """Bool canvas with the box painted, MARGIN pixels wider on each side."""
    canvas = np.zeros((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN), dtype=bool)
    x1, y1, x2, y2 = (int(v) + MARGIN for v in box)
    canvas[y1:y2, x1:x2] = True
    return canvas


def test_overlaps_are_mmdets_and_areas_counted_pixels():
    a, b = random_boxes(12, seed=1), random_boxes(9, seed=2)
    copies = a.clone(), b.clone()
    torch.testing.assert_close(pairwise_iou(a, b), bbox_overlaps(*copies))
    assert torch.equal(a, copies[0]) and torch.equal(b, copies[1])
    assert torch.equal(box_area(a), torch.tensor([paint(x).sum() for x in a]))


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
    dx, dy = int(WIDTH * band), int(HEIGHT * band)
    image = paint([0, 0, WIDTH, HEIGHT])
    ring = image & ~paint([dx, dy, WIDTH - dx, HEIGHT - dy])
    for box, value in zip(boxes, overlap, strict=True):
        expected = (paint(box) & ring).sum() / paint(box).sum()
        assert value == pytest.approx(expected, abs=1e-5)
    assert (overlap > 0).any() and (overlap < 1).any()


def test_normalise_boxes():
    boxes = torch.tensor([[[0.0, 0.0, 40.0, 20.0], [10.0, 5.0, 20.0, 20.0]]])
    expected = torch.tensor([[[0, 0, 1, 1], [0.25, 0.25, 0.5, 1]]])
    # the third entry of an (H, W, C) shape is no matter
    for given in (boxes, boxes.half()):
        assert torch.equal(normalise_boxes(given, (20, 40, 3)), expected)
