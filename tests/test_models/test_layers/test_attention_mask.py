import numpy as np
import pytest
import torch
from mmdet.structures.bbox import bbox_flip, bbox_overlaps

from mmfgl.models.layers import (
    RegionTransformer,
    attention_mask,
    close_leaks,
    iou_attention_mask,
    log_geometry,
    pairwise_iou,
)
from mmfgl.testing import randomise_weights

SIZE = 24


def random_boxes(count, seed=0):
    """Whole-pixel boxes: flips and scalings of them are exact in fp32."""
    rng = np.random.default_rng(seed)
    corners = np.sort(rng.integers(0, SIZE, size=(count, 2, 2)), axis=1)
    corners[:, 1] += 1
    return torch.from_numpy(corners.reshape(count, 4)).float()


@pytest.mark.parametrize('band', [(0.1, 1.0), (0.1, 0.6), (0.0, 0.3)])
@pytest.mark.parametrize('limit', [2**22, 1, 100])
def test_mask_is_the_iou_band_and_the_diagonal(monkeypatch, band, limit):
    monkeypatch.setattr(attention_mask, 'MAX_PAIRS', limit)
    inverted = torch.tensor([[9.0, 9, 2, 2]])
    boxes = torch.cat([random_boxes(37), torch.zeros(2, 4), inverted])
    boxes = boxes.view(2, 20, 4)
    mask = iou_attention_mask(boxes, *band)
    for one, seen in zip(boxes, mask, strict=True):
        iou = bbox_overlaps(one, one)
        expected = (iou >= band[0]) & (iou <= band[1] + 1e-6)
        assert torch.equal(seen, expected.fill_diagonal_(True))
        assert 0 < expected.float().mean() < 1
    assert iou_attention_mask(torch.zeros(0, 4)).shape == (0, 0)


@pytest.mark.parametrize(
    'change',
    [
        lambda b: bbox_flip(b, (SIZE, SIZE)),
        lambda b: b * torch.tensor([3.0, 5.0, 3.0, 5.0]),
        lambda b: b + torch.tensor([7.0, -5.0, 7.0, -5.0]),
        torch.Tensor.bfloat16,
        torch.Tensor.half,
    ],
    ids=['flip', 'scale', 'shift', 'bf16', 'fp16'],
)
def test_mask_is_invariant(change):
    boxes = random_boxes(40)
    assert torch.equal(
        iou_attention_mask(change(boxes), low=0.1, high=0.7),
        iou_attention_mask(boxes, low=0.1, high=0.7),
    )


@pytest.mark.parametrize('band', [(0.5, 0.4), (-0.1, 1.0), (0.0, 1.1)])
def test_band_out_of_range(band):
    with pytest.raises(ValueError, match='low <= high'):
        iou_attention_mask(random_boxes(2), *band)


def masked_case(seed, batch=2, num=20):
    """Overlapping boxes, their mask, and which tokens are masked."""
    boxes = random_boxes(batch * num, seed).view(batch, num, 4)
    boxes[:, 1] = boxes[:, 0]  # a masked twin of an unmasked token
    generator = torch.Generator().manual_seed(seed)
    masked = torch.rand(batch, num, generator=generator) > 0.6
    masked[:, :2] = torch.tensor([True, False])
    return boxes, iou_attention_mask(boxes, low=0.1), masked


@pytest.mark.parametrize('num_layers', [1, 2, 3, 4])
@pytest.mark.parametrize('max_iou', [0.3, 0.5])
@pytest.mark.parametrize('seed', range(2))
def test_no_chain_of_open_pairs_leaks(num_layers, max_iou, seed):
    boxes, mask, masked = masked_case(seed)
    closed = close_leaks(mask, boxes, masked, max_iou, num_layers)
    reachable = torch.linalg.matrix_power  # after some layers
    one, after = mask.double(), closed.double()
    leaks = pairwise_iou(boxes, boxes) > max_iou
    leaks = leaks & masked[..., None] & ~masked[..., None, :]
    assert reachable(one, num_layers)[leaks].any()
    assert not reachable(after, num_layers)[leaks].any()
    if num_layers == 1:
        assert torch.equal(closed, mask & ~leaks)
    # nothing is opened, unmasked tokens and the diagonal keep all
    assert not (closed & ~mask).any()
    assert torch.equal(closed[~masked], mask[~masked])
    assert closed.diagonal(dim1=-2, dim2=-1).all()
    # the threshold is exclusive
    exact = pairwise_iou(boxes, boxes)[0, 0, 1].item()
    kept = close_leaks(mask, boxes, masked, exact, num_layers)
    assert kept[0, 0, 1] and not closed[0, 0, 1]
    # every pair that went began such a chain
    before = reachable(one, num_layers - 1)
    for b, i, k in (mask & ~closed).nonzero().tolist():
        assert before[b, k][leaks[b, i]].any()


@pytest.mark.parametrize('num_layers', [1, 2, 3])
def test_masked_tokens_do_not_feel_what_they_must_not_read(num_layers):
    encoder = randomise_weights(RegionTransformer(8, 2, num_layers, 0))
    boxes, mask, masked = masked_case(0)
    closed = close_leaks(mask, boxes, masked, 0.5, num_layers)
    tokens = torch.randn(2, 20, 8, generator=torch.Generator().manual_seed(1))
    moved = tokens.clone()
    moved[:, 1] = moved[:, 1].roll(1, -1)  # the unmasked twin of token 0
    felt = [
        encoder.encode(moved, m, boxes) - encoder.encode(tokens, m, boxes)
        for m in (mask, closed)
    ]
    assert felt[0][:, 0].abs().max() > 1e-2 and not felt[1][:, 0].any()


def test_log_geometry():
    one, other = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[4.0, 1, 6, 5]])
    expected = torch.tensor([[3 / 4, 2 / 2, 2 / 4, 4 / 2]]).log()
    torch.testing.assert_close(log_geometry(one, other), expected)
    # boxes without area, inverted, far away
    boxes = [[5.0, 5, 5, 5], [5, 5, 9, 5], [9, 9, 2, 2], [1e6, 1, 2e6, 3]]
    boxes = torch.tensor(boxes)
    pairs = log_geometry(boxes[:, None], boxes[None])
    assert pairs.shape == (4, 4, 4)
    assert pairs.isfinite().all() and (pairs.abs() <= 7).all()
