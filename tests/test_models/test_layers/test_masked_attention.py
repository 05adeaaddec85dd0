import pytest
import torch

from mmfgl.models.layers import (
    GeometryBias,
    MaskedAttention,
    RegionTransformer,
    iou_attention_mask,
    log_geometry,
    masked_attention,
)
from mmfgl.testing import randomise_weights

WIDTH, HEADS = 8, 2


def candidates(num=12, batch=2, seed=0):
    """Tokens, boxes and mask of the candidates of some images."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(batch, num, 4, generator=generator) * 40
    boxes[..., 2:] += boxes[..., :2]
    tokens = torch.randn(batch, num, WIDTH, generator=generator)
    return tokens, boxes, iou_attention_mask(boxes)


def by_hand(attention, x, mask, bias=0.0):
    """Attention in plain matrix products: output and mean weights."""
    key, value = attention.key_value(x).chunk(2, dim=-1)

    def heads(y):
        return y.view(*y.shape[:2], HEADS, -1).transpose(1, 2)

    scores = heads(attention.query(x)) @ heads(key).transpose(-1, -2)
    scores = scores / (WIDTH // HEADS) ** 0.5 + bias
    weights = scores.masked_fill(~mask[:, None], float('-inf')).softmax(-1)
    out = (weights @ heads(value)).transpose(1, 2).flatten(2)
    return attention.out(out), weights.mean(1)


@pytest.mark.parametrize('limit', [2**25, 1, 100])
@pytest.mark.parametrize('biased', [False, True])
def test_slices_equal_plain_attention(monkeypatch, limit, biased):
    monkeypatch.setattr(masked_attention, 'MAX_SCORES', limit)
    attention = randomise_weights(MaskedAttention(WIDTH, HEADS, None))
    geometry = randomise_weights(GeometryBias(HEADS))
    x, boxes, mask = candidates()
    added, give = 0.0, None
    if biased:
        pairs = log_geometry(boxes[:, :, None], boxes[:, None])
        added = geometry.layers(pairs).permute(0, 3, 1, 2)

        def give(rows):
            return geometry(mask[:, rows], boxes[:, rows], boxes)

    out, weights = by_hand(attention, x, mask, added)
    seen = attention(x, x, mask, give)
    torch.testing.assert_close(seen, out, atol=1e-5, rtol=1e-4)
    seen = attention.weights(x, x, mask, give)
    torch.testing.assert_close(seen, weights)
    assert torch.equal(seen > 0, mask)
    if biased:
        assert not torch.allclose(out, by_hand(attention, x, mask)[0])


def test_bias_is_closed_where_the_mask_is():
    _, boxes, mask = candidates()
    bias = GeometryBias(HEADS)(mask, boxes, boxes)
    opened = mask[:, None].expand_as(bias)
    assert (bias[~opened] == float('-inf')).all()
    # untrained, it changes nothing
    assert (bias[opened] == 0).all()


def test_bias_needs_a_block():
    with pytest.raises(ValueError, match='at least one'):
        RegionTransformer(WIDTH, HEADS, 0, 0, geometry_bias=True)


@pytest.mark.parametrize(('heads', 'width'), [(HEADS, 5), (3, None)])
def test_wrong_number_of_heads(heads, width):
    with pytest.raises(ValueError, match='must divide attention_dims'):
        MaskedAttention(WIDTH, heads, width)
