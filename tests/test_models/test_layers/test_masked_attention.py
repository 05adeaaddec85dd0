import pytest
import torch

from mmfgl.models.layers import (
    GeometryBias,
    MaskedAttention,
    RegionTransformer,
    masked_attention,
)
from mmfgl.models.layers.attention_mask import iou_attention_mask, log_geometry
from mmfgl.testing import stir

WIDTH, HEADS = 8, 2


def scene(num=12, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(batch, num, 4, generator=generator) * 40
    boxes[..., 2:] += boxes[..., :2]
    tokens = torch.randn(batch, num, WIDTH, generator=generator)
    return tokens, boxes, iou_attention_mask(boxes)


def by_hand(attention, x, mask, bias=0.0):
    """Attention in plain matrix products."""
    key, value = attention.key_value(x).chunk(2, dim=-1)

    def heads(y):
        return y.view(*y.shape[:2], HEADS, -1).transpose(1, 2)

    scores = heads(attention.query(x)) @ heads(key).transpose(-1, -2)
    scores = scores / (WIDTH // HEADS) ** 0.5 + bias
    scores = scores.masked_fill(~mask[:, None], float('-inf'))
    out = scores.softmax(-1) @ heads(value)
    return attention.out(out.transpose(1, 2).flatten(2))


@pytest.mark.parametrize('limit', [2**25, 1, 100])
@pytest.mark.parametrize('biased', [False, True])
def test_slices_equal_plain_attention(monkeypatch, limit, biased):
    monkeypatch.setattr(masked_attention, 'MAX_SCORES', limit)
    attention = stir(MaskedAttention(WIDTH, HEADS))
    geometry = stir(GeometryBias(HEADS))
    x, boxes, mask = scene()
    added, give = 0.0, None
    if biased:
        pairs = log_geometry(boxes[:, :, None], boxes[:, None])
        added = geometry.layers(pairs).permute(0, 3, 1, 2)

        def give(rows):
            return geometry(mask[:, rows], boxes[:, rows], boxes)

    seen = attention(x, x, mask, give)
    expected = by_hand(attention, x, mask, added)
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-4)
    if biased:
        assert not torch.allclose(seen, by_hand(attention, x, mask))


@pytest.mark.parametrize('biased', [False, True])
def test_weights_are_those_of_the_mask(biased):
    attention = stir(MaskedAttention(WIDTH, HEADS))
    x, boxes, mask = scene()
    bias = None
    if biased:
        bias = stir(GeometryBias(HEADS))(mask, boxes, boxes)
    weights = attention.weights(x, x, mask, bias)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 12))
    assert torch.equal(weights > 0, mask)


def test_bias_is_closed_where_the_mask_is():
    _, boxes, mask = scene()
    bias = GeometryBias(HEADS)(mask, boxes, boxes)
    assert bias.shape == (2, HEADS, 12, 12)
    opened = mask[:, None].expand_as(bias)
    assert (bias[~opened] == float('-inf')).all()
    # untrained, it changes nothing
    assert (bias[opened] == 0).all()


def transformer(**options):
    options = dict(embed_dims=WIDTH, num_heads=HEADS, **options)
    return stir(RegionTransformer(geometry_bias=True, **options))


@pytest.mark.parametrize('autocast', [False, True])
def test_geometry_reaches_the_tokens_and_is_trained(autocast):
    model = transformer()
    x, boxes, mask = scene()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        memory = model.encode(x, mask, boxes)
        out = model.decode(x, memory, mask, boxes, boxes)
        moved = model.encode(x, mask, boxes * torch.tensor([1.0, 2, 1, 2]))
    # ratios are the same in a stretched frame
    torch.testing.assert_close(moved, memory, atol=1e-4, rtol=1e-3)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        other = model.encode(x, mask, boxes.flip(1))
    assert not torch.allclose(other, memory)
    out.float().square().sum().backward()
    for name, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), name
    assert model.geometry.layers[0].weight.grad.any()


def test_images_do_not_mix_with_a_bias():
    model = transformer()
    x, boxes, mask = scene()
    together = model.encode(x, mask, boxes)
    for i in range(2):
        rows = slice(i, i + 1)
        alone = model.encode(x[rows], mask[rows], boxes[rows])
        torch.testing.assert_close(together[rows], alone)


def test_boxes_are_needed():
    model = transformer()
    x, _, mask = scene()
    with pytest.raises(ValueError, match='without them'):
        model.encode(x, mask)
    with pytest.raises(ValueError, match='without them'):
        model.decode(x, x, mask)
    with pytest.raises(ValueError, match='at least one'):
        transformer(num_encoder_layers=0, num_decoder_layers=0)


def test_off_by_default():
    assert RegionTransformer(WIDTH, HEADS).geometry is None


def test_four_thousand_candidates():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(1, 4000, 4, generator=generator) * 1000
    boxes[..., 2:] = boxes[..., :2] + 60
    mask = iou_attention_mask(boxes)
    model = transformer(num_decoder_layers=0)
    with torch.no_grad():
        out = model.encode(torch.randn(1, 4000, WIDTH), mask, boxes)
    assert out.shape == (1, 4000, WIDTH) and out.isfinite().all()


def test_boxes_without_area_have_finite_geometry():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 9, 5], [1e6, 1, 2e6, 3]])
    pairs = log_geometry(boxes[:, None], boxes[None])
    assert pairs.shape == (3, 3, 4)
    assert pairs.isfinite().all() and (pairs.abs() <= 7).all()
    one, other = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[4.0, 1, 6, 5]])
    expected = torch.tensor([[3 / 4, 2 / 2, 2 / 4, 4 / 2]]).log()
    torch.testing.assert_close(log_geometry(one, other), expected)


def test_narrow_attention():
    model = transformer(attention_dims=4)
    x, boxes, mask = scene()
    wide = transformer()
    assert model.encode(x, mask, boxes).shape == x.shape
    attention = model.encoder[0].attention
    assert attention.query.weight.shape == (4, WIDTH)
    assert attention.out.weight.shape == (WIDTH, 4)
    count = sum(p.numel() for p in model.parameters())
    assert count < sum(p.numel() for p in wide.parameters())
    with pytest.raises(ValueError, match=r'attention_dims \(5\)'):
        transformer(attention_dims=5)
