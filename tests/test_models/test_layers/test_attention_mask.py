import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps

from mmfgl.models.layers import attention_mask
from mmfgl.models.layers.attention_mask import close_leaks, iou_attention_mask

SIZE = 24


def random_boxes(count, seed=0):
    """Whole-pixel boxes: flips and scalings of them are exact in fp32."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, SIZE, size=(count, 2, 2)), axis=1)
    corners[:, 1] += 1
    return torch.from_numpy(corners.reshape(count, 4)).float()


def iou_of_two(a, b):
    """IoU of two boxes in plain Python."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.tolist(), b.tolist()
    width = max(0, min(ax2, bx2) - max(ax1, bx1))
    height = max(0, min(ay2, by2) - max(ay1, by1))
    areas = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1)
    return width * height / (areas - width * height)


@pytest.mark.parametrize('band', [(0.1, 1.0), (0.1, 0.6), (0.0, 0.3)])
def test_mask_equals_a_double_loop(band):
    boxes = random_boxes(30)
    context = torch.arange(30) % 4 != 0
    mask = iou_attention_mask(boxes, None, *band, context=context)
    low, high = band
    for i, j in np.ndindex(30, 30):
        fits = low <= iou_of_two(boxes[i], boxes[j]) <= high
        assert mask[i, j] == (i == j or (fits and bool(context[j])))


def test_mask_agrees_with_mmdet():
    torch.manual_seed(0)
    boxes = torch.rand(80, 4) * 50
    boxes[:, 2:] += boxes[:, :2]
    expected = bbox_overlaps(boxes, boxes) >= 0.2
    assert torch.equal(iou_attention_mask(boxes, low=0.2), expected)
    assert 0.05 < expected.float().mean() < 0.95


def test_no_row_is_ever_closed():
    boxes = torch.cat([random_boxes(20), torch.zeros(2, 4)])
    closed = torch.zeros(22, dtype=torch.bool)
    # an empty context, and a band that shuts even the box itself out
    for options in (dict(context=closed), dict(low=0.2, high=0.3)):
        mask = iou_attention_mask(boxes, **options)
        assert mask.diagonal().all()
        assert mask.any(dim=-1).all()
    assert torch.equal(
        iou_attention_mask(boxes, context=closed), torch.eye(22).bool()
    )


def test_context_closes_columns_but_the_diagonal():
    boxes = random_boxes(20)
    context = torch.ones(20, dtype=torch.bool)
    context[[3, 7]] = False
    free = iou_attention_mask(boxes, low=0.05)
    mask = iou_attention_mask(boxes, low=0.05, context=context)
    assert free[:, [3, 7]].sum() > 2
    assert mask[:, [3, 7]].sum() == 2
    assert mask[3, 3]
    assert mask[7, 7]
    assert torch.equal(mask[:, context], free[:, context])
    # the filtered candidates themselves still read
    assert mask[3].sum() > 1


def flipped(boxes):
    return boxes[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1]) + (
        torch.tensor([SIZE, 0, SIZE, 0])
    )


@pytest.mark.parametrize(
    'change',
    [
        flipped,
        lambda b: b * 3,
        lambda b: b * torch.tensor([3.0, 5.0, 3.0, 5.0]),
        lambda b: b + torch.tensor([7.0, -5.0, 7.0, -5.0]),
    ],
    ids=['flip', 'scale', 'anisotropic', 'shift'],
)
def test_mask_is_invariant(change):
    boxes = random_boxes(40)
    assert torch.equal(
        iou_attention_mask(change(boxes), low=0.1, high=0.7),
        iou_attention_mask(boxes, low=0.1, high=0.7),
    )


def test_batch_entries_are_independent():
    boxes = random_boxes(60).view(2, 3, 10, 4)
    context = torch.rand(2, 3, 10, generator=torch.manual_seed(0)) > 0.5
    mask = iou_attention_mask(boxes, context=context)
    assert mask.shape == (2, 3, 10, 10)
    for i, j in np.ndindex(2, 3):
        one = iou_attention_mask(boxes[i, j], context=context[i, j])
        assert torch.equal(mask[i, j], one)


def test_targets_that_are_a_subset_of_the_candidates():
    boxes = random_boxes(20)
    context = torch.arange(20) % 2 == 0
    full = iou_attention_mask(boxes, context=context)
    chosen = torch.tensor([13, 2, 5])
    mask = iou_attention_mask(
        boxes[chosen], boxes, context=context, diagonal=chosen
    )
    assert torch.equal(mask, full[chosen])
    # one subset for a whole batch, and one for each entry
    batch = random_boxes(40, seed=1).view(2, 20, 4)
    full = iou_attention_mask(batch)
    mask = iou_attention_mask(batch[:, chosen], batch, diagonal=chosen)
    assert torch.equal(mask, full[:, chosen])
    each = torch.tensor([[13, 2, 5], [0, 19, 7]])
    rows = torch.arange(2).unsqueeze(1)
    mask = iou_attention_mask(batch[rows, each], batch, diagonal=each)
    assert torch.equal(mask, full[rows, each])


def test_no_boxes():
    assert iou_attention_mask(torch.zeros(0, 4)).shape == (0, 0)
    mask = iou_attention_mask(
        torch.zeros(0, 4), random_boxes(3), diagonal=torch.zeros(0).long()
    )
    assert mask.shape == (0, 3)


def test_half_precision_boxes():
    boxes = random_boxes(20)
    for dtype in (torch.bfloat16, torch.float16):
        mask = iou_attention_mask(boxes.to(dtype))
        assert torch.equal(mask, iou_attention_mask(boxes))


@pytest.mark.parametrize('band', [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.1)])
def test_band_out_of_range(band):
    with pytest.raises(ValueError, match='low <= high'):
        iou_attention_mask(random_boxes(2), None, *band)


def test_leaks_equal_a_double_loop():
    boxes = random_boxes(40).view(2, 20, 4)
    # a hair's difference in IoU gives the answer away as well
    boxes[:, 1] = boxes[:, 0]
    masked = torch.rand(2, 20, generator=torch.manual_seed(0)) > 0.5
    masked[:, :2] = torch.tensor([True, False])
    mask = iou_attention_mask(boxes, low=0.05)
    closed = close_leaks(mask, boxes, masked)
    for b, i, j in np.ndindex(2, 20, 20):
        leak = masked[b, i] and not masked[b, j]
        leak = leak and iou_of_two(boxes[b, i], boxes[b, j]) > 0.5
        assert closed[b, i, j] == (mask[b, i, j] and not leak)
    assert not closed[:, 0, 1].any()
    assert closed[:, 1, 0].all()  # the unmasked one may read the masked
    assert closed.diagonal(dim1=-2, dim2=-1).all()


def test_leak_threshold_is_exclusive():
    boxes = torch.tensor([[0.0, 0, 4, 4], [0.0, 0, 4, 2]])  # IoU 0.5
    masked = torch.tensor([True, False])
    mask = torch.ones(2, 2, dtype=torch.bool)
    assert close_leaks(mask, boxes, masked, max_iou=0.5).all()
    closed = close_leaks(mask, boxes, masked, max_iou=0.49)
    assert closed.tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize('value', [True, False])
def test_no_leak_when_all_or_none_are_masked(value):
    boxes = random_boxes(10)
    mask = iou_attention_mask(boxes)
    masked = torch.full((10,), value)
    assert torch.equal(close_leaks(mask, boxes, masked), mask)


@pytest.mark.parametrize('limit', [1, 37, 400])
def test_slices_of_rows_change_nothing(monkeypatch, limit):
    boxes = random_boxes(40).view(2, 20, 4)
    context = torch.arange(20) % 3 != 0
    expected = iou_attention_mask(boxes, context=context)
    monkeypatch.setattr(attention_mask, 'MAX_PAIRS', limit)
    assert torch.equal(iou_attention_mask(boxes, context=context), expected)
