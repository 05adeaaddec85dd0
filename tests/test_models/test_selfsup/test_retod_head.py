import math

import pytest
import torch
import torch.nn.functional as F

from mmfgl.registry import MODELS
from mmfgl.testing import region_batch, stir, tiny_retod_cfg


def build(**changes):
    torch.manual_seed(0)
    return MODELS.build(tiny_retod_cfg(head=changes).head)


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def boxes_of_batch():
    """(4, 6, 4) jittered and true boxes of two images in two views."""
    samples = region_batch()['data_samples']
    return (
        torch.cat([getattr(s, key) for s in samples])
        for key in ('jittered', 'boxes')
    )


@pytest.mark.parametrize('num_regions', [2, 3, 16, 40])
def test_share_of_masked_tokens(num_regions):
    head = build(mask_ratio=(0.1, 0.5))
    low = max(1, round(0.1 * num_regions - 0.5))
    high = min(num_regions - 1, math.ceil(0.5 * num_regions))
    counts = set()
    for _ in range(60):
        masked = head.draw_masks(3, num_regions)
        assert masked.shape == (3, num_regions) and masked.dtype == torch.bool
        # the same number in every view
        (count,) = set(masked.sum(dim=1).tolist())
        assert low <= count <= high
        counts.add(count)
    assert len(counts) > 1 or num_regions < 4


def test_masks_differ_between_views():
    head = build(mask_ratio=(0.5, 0.5))
    masked = head.draw_masks(8, 16)
    assert (masked.sum(dim=1) == 8).all()
    assert len({tuple(row) for row in masked.tolist()}) > 1


@pytest.mark.parametrize('ratio', [(0.01, 0.02), (0.98, 0.99)], ids=str)
def test_never_all_and_never_none(ratio):
    masked = build(mask_ratio=ratio).draw_masks(4, 3)
    assert masked.any(dim=1).all() and (~masked).any(dim=1).all()


def test_one_region_is_too_few():
    with pytest.raises(ValueError, match='at least 2 regions'):
        build().draw_masks(2, 1)


@pytest.mark.parametrize('ratio', [(0, 0.5), (0.5, 0.1), (0.5, 1.0)], ids=str)
def test_mask_ratio_out_of_range(ratio):
    with pytest.raises(ValueError, match='0 < least <= largest < 1'):
        build(mask_ratio=ratio)


def test_masked_content_is_the_mask_token():
    head = build()
    content = tokens(2, 3, 16).bfloat16()
    masked = torch.tensor([[True, False, False], [False, True, True]])
    out = head.mask_content(content, masked)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out[~masked], content[~masked])
    expected = head.mask_token.to(torch.bfloat16).expand(3, -1)
    assert torch.equal(out[masked], expected)


def test_distillation_losses():
    head = stir(build())
    student = tokens(4, 6, 16)
    targets, other = (tokens(2, 4, 6, 12) * 3).softmax(dim=-1)
    masked = torch.rand(4, 6, generator=torch.Generator().manual_seed(2)) < 0.4
    losses = head.distill(student, targets, other, masked)
    log_probs = F.log_softmax(head.projector(student) / 0.1, dim=-1)
    for key, wanted, chosen in (
        ('loss_distill', other, ~masked),
        ('loss_mask', targets, masked),
    ):
        expected = -(wanted * log_probs).sum(dim=-1)[chosen].mean()
        torch.testing.assert_close(losses[key], expected)
    entropy = -(targets * targets.log()).sum(dim=-1).mean() / math.log(12)
    torch.testing.assert_close(losses['teacher_entropy'], entropy)
    assert {k for k in losses if 'loss' in k} == {'loss_distill', 'loss_mask'}


def test_loss_weights():
    weighted = dict(type='mmfgl.RegionDistillLoss', loss_weight=3.0)
    targets = (tokens(4, 6, 12) * 3).softmax(dim=-1)
    masked = tokens(4, 6) > 0
    args = tokens(4, 6, 16), targets, targets, masked
    once = build().distill(*args)
    thrice = build(loss_mask=weighted).distill(*args)
    torch.testing.assert_close(thrice['loss_mask'], 3 * once['loss_mask'])
    torch.testing.assert_close(thrice['loss_distill'], once['loss_distill'])


def test_right_offsets_cost_nothing():
    head = build()
    jittered, boxes = boxes_of_batch()
    offsets = head.bbox_coder.encode(
        jittered.flatten(0, 1), boxes.flatten(0, 1)
    )
    head.coord = torch.nn.Identity()
    losses = head.regress(offsets.view(4, 6, 4), jittered, boxes)
    assert losses['loss_coord'] == 0
    assert losses['loss_giou'].item() == pytest.approx(0, abs=1e-4)
    assert losses['coord_iou'].item() == pytest.approx(1, abs=1e-4)


def test_offsets_are_from_jittered_to_true_boxes():
    head = build()
    jittered, boxes = boxes_of_batch()
    losses = head.regress(tokens(4, 6, 16), jittered, boxes)
    # a fresh coordinate layer predicts next to nothing
    offsets = head.bbox_coder.encode(
        jittered.flatten(0, 1), boxes.flatten(0, 1)
    )
    expected = F.smooth_l1_loss(torch.zeros_like(offsets), offsets)
    torch.testing.assert_close(
        losses['loss_coord'], expected, rtol=0.05, atol=0
    )
    iou = losses['coord_iou'].item()
    assert 0.6 < iou < 0.95
    assert losses['jitter_iou'].item() == pytest.approx(iou, abs=0.01)
    assert losses['loss_giou'].item() == pytest.approx(1 - iou, abs=0.05)
    assert not losses['coord_iou'].requires_grad


def test_no_giou_and_mse():
    head = build(loss_giou=None, loss_coord=dict(type='mmdet.MSELoss'))
    jittered, boxes = boxes_of_batch()
    losses = head.regress(tokens(4, 6, 16), jittered, boxes)
    assert set(losses) == {'loss_coord', 'coord_iou', 'jitter_iou'}
    offsets = head.bbox_coder.encode(
        jittered.flatten(0, 1), boxes.flatten(0, 1)
    )
    predicted = head.coord(tokens(4, 6, 16)).flatten(0, 1)
    torch.testing.assert_close(
        losses['loss_coord'], F.mse_loss(predicted, offsets)
    )


def test_fp32_under_autocast():
    head = build()
    jittered, boxes = boxes_of_batch()
    with torch.autocast('cpu', torch.bfloat16):
        losses = head.regress(tokens(4, 6, 16), jittered, boxes)
    assert {value.dtype for value in losses.values()} == {torch.float32}
