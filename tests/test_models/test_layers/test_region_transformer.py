import pytest
import torch

from mmfgl.models.layers import MaskedAttention, RegionBlock, RegionTransformer
from mmfgl.registry import MODELS

IMAGES, TOKENS, QUERIES, DIMS, HEADS = 2, 9, 4, 16, 4


def awake(module, seed=0):
    """Random weights everywhere: zero-initialised blocks hide all faults."""
    generator = torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return module


@pytest.fixture
def transformer():
    return awake(RegionTransformer(DIMS, HEADS, 2, 2))


@pytest.fixture
def tokens():
    return torch.randn(IMAGES, TOKENS, DIMS, generator=torch.manual_seed(1))


@pytest.fixture
def mask():
    generator = torch.manual_seed(2)
    mask = torch.rand(IMAGES, TOKENS, TOKENS, generator=generator) > 0.5
    return mask | torch.eye(TOKENS, dtype=torch.bool)


@pytest.fixture
def queries():
    return torch.randn(IMAGES, QUERIES, DIMS, generator=torch.manual_seed(3))


def test_starts_as_the_identity(tokens, mask, queries):
    transformer = RegionTransformer(DIMS, HEADS, 2, 2)
    for _ in range(2):
        assert torch.equal(transformer.encode(tokens, mask), tokens)
        decoded = transformer.decode(queries, tokens, mask[:, :QUERIES])
        assert torch.equal(decoded, queries)
        transformer.init_weights()  # what MMEngine's runner calls


def test_leaves_the_identity_after_a_step(tokens, mask):
    torch.manual_seed(0)
    transformer = RegionTransformer(DIMS, HEADS, 1, 0)
    optimizer = torch.optim.SGD(transformer.parameters(), lr=0.1)
    target = tokens.roll(1, dims=1)
    losses = []
    for _ in range(4):
        loss = (transformer.encode(tokens, mask) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    # from the second step on gradients reach all of the attention
    for name, parameter in transformer.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_no_layers_mean_identity(tokens, mask, queries):
    transformer = awake(RegionTransformer(DIMS, HEADS, 0, 0))
    assert transformer.encode(tokens, mask) is tokens
    assert transformer.decode(queries, tokens, mask[:, :QUERIES]) is queries
    assert not list(transformer.parameters())


def test_attention_equals_a_plain_computation(tokens, mask, queries):
    attention = awake(MaskedAttention(DIMS, HEADS))
    mask = mask[:, :QUERIES]
    out = attention(queries, tokens, mask)
    key, value = attention.key_value(tokens).split(DIMS, dim=-1)
    query, width = attention.query(queries), DIMS // HEADS
    parts = []
    for head in range(HEADS):
        own = slice(head * width, (head + 1) * width)
        logits = query[..., own] @ key[..., own].transpose(1, 2) / width**0.5
        logits = logits.masked_fill(~mask, float('-inf'))
        parts.append(logits.softmax(dim=-1) @ value[..., own])
    expected = attention.out(torch.cat(parts, dim=-1))
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_encoder_is_permutation_equivariant(transformer, tokens, mask):
    order = torch.randperm(TOKENS, generator=torch.manual_seed(4))
    out = transformer.encode(tokens, mask)
    mixed = transformer.encode(tokens[:, order], mask[:, order][:, :, order])
    torch.testing.assert_close(mixed, out[:, order], atol=1e-5, rtol=1e-5)
    # and the mask matters
    other = transformer.encode(tokens[:, order], mask)
    assert not torch.allclose(other, out[:, order], atol=1e-2)


def test_decoder_ignores_the_order_of_its_memory(
    transformer, tokens, mask, queries
):
    mask = mask[:, :QUERIES]
    order = torch.randperm(TOKENS, generator=torch.manual_seed(4))
    out = transformer.decode(queries, tokens, mask)
    mixed = transformer.decode(queries, tokens[:, order], mask[..., order])
    torch.testing.assert_close(mixed, out, atol=1e-5, rtol=1e-5)


def test_memory_is_normalised(transformer, tokens, mask, queries):
    mask = mask[:, :QUERIES]
    out = transformer.decode(queries, tokens, mask)
    scaled = transformer.decode(queries, tokens * 10 + 3, mask)
    torch.testing.assert_close(scaled, out, atol=1e-3, rtol=1e-3)


def test_queries_do_not_see_each_other(transformer, tokens, mask, queries):
    mask = mask[:, :QUERIES]
    out = transformer.decode(queries, tokens, mask)
    alone = transformer.decode(queries[:, 1:2], tokens, mask[:, 1:2])
    torch.testing.assert_close(alone, out[:, 1:2], atol=1e-5, rtol=1e-5)


def test_closed_candidates_have_no_influence(
    transformer, tokens, mask, queries
):
    closed = 5
    mask[:, :, closed] = False
    mask[:, closed, closed] = True
    changed = tokens.clone()
    changed[:, closed] = 100 * torch.randn(
        IMAGES, DIMS, generator=torch.manual_seed(4)
    )
    others = [i for i in range(TOKENS) if i != closed]
    before = transformer.encode(tokens, mask)
    after = transformer.encode(changed, mask)
    assert torch.equal(before[:, others], after[:, others])
    assert (before[:, closed] - after[:, closed]).abs().min() > 1e-2
    mask = mask[:, :QUERIES]
    assert torch.equal(
        transformer.decode(queries, tokens, mask),
        transformer.decode(queries, changed, mask),
    )


def test_open_candidates_have_influence(transformer, tokens, mask):
    mask[0, 2, 5] = True
    changed = tokens.clone()
    changed[0, 5] = changed[0, 5].roll(1)
    before = transformer.encode(tokens, mask)
    after = transformer.encode(changed, mask)
    assert (before[0, 2] - after[0, 2]).abs().max() > 1e-3


def test_closed_candidates_get_no_gradient(transformer, tokens, mask):
    mask[:, :, 5] = False
    mask[:, 5, 5] = True
    tokens.requires_grad_()
    transformer.encode(tokens, mask)[:, :5].sum().backward()
    assert (tokens.grad[:, 5] == 0).all()
    assert (tokens.grad[:, :5] != 0).any()


def test_images_never_influence_each_other(transformer, tokens, mask, queries):
    changed = tokens.clone()
    changed[1] = changed[1].roll(1, dims=-1) * 1e3
    before = transformer.encode(tokens, mask)
    after = transformer.encode(changed, mask)
    assert torch.equal(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-2
    decoded = [
        transformer.decode(queries, memory, mask[:, :QUERIES])[0]
        for memory in (before, after)
    ]
    assert torch.equal(*decoded)
    # an image's tokens are the same whatever batch it is in
    alone = transformer.encode(tokens[:1], mask[:1])
    torch.testing.assert_close(alone, before[:1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('autocast', [False, True])
def test_rows_with_one_open_column_have_finite_gradients(
    transformer, tokens, queries, autocast
):
    mask = torch.eye(TOKENS, dtype=torch.bool).expand(IMAGES, -1, -1)
    tokens.requires_grad_()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        memory = transformer.encode(tokens, mask)
        out = transformer.decode(queries, memory, mask[:, :QUERIES])
    out.float().square().mean().backward()
    assert out.isfinite().all()
    assert tokens.grad.isfinite().all()
    for name, parameter in transformer.named_parameters():
        assert parameter.grad.isfinite().all(), name


def test_bfloat16_autocast_is_close(transformer, tokens, mask):
    full = transformer.encode(tokens, mask)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half = transformer.encode(tokens, mask)
    error = (half.float() - full).norm() / full.norm()
    assert 0 < error < 0.05


@pytest.mark.parametrize(('images', 'count'), [(2, 0), (0, 3), (1, 1)])
def test_few_or_no_tokens(transformer, images, count):
    tokens = torch.randn(images, count, DIMS)
    mask = torch.ones(images, count, count, dtype=torch.bool)
    out = transformer.encode(tokens, mask)
    assert out.shape == (images, count, DIMS)
    out = transformer.decode(out, out, mask)
    assert out.shape == (images, count, DIMS)
    assert out.isfinite().all()


def test_block_keeps_the_residual_of_its_queries(tokens, mask, queries):
    block = awake(RegionBlock(DIMS, HEADS, 2.0))
    with torch.no_grad():
        for layer in (block.attention.out, block.ffn.layers[1]):
            layer.weight.zero_()
            layer.bias.zero_()
    assert torch.equal(block(queries, mask[:, :QUERIES], tokens), queries)


def test_wrong_number_of_heads():
    with pytest.raises(ValueError, match=r'embed_dims \(10\).*num_heads'):
        MaskedAttention(10, 4)
    with pytest.raises(ValueError, match='num_heads'):
        RegionTransformer(10, 4)


def test_builds_from_the_registry():
    config = dict(type='mmfgl.RegionTransformer', embed_dims=8, num_heads=2)
    transformer = MODELS.build(config)
    assert len(transformer.encoder) == len(transformer.decoder) == 1
    names = {name.split('.')[0] for name in transformer.state_dict()}
    assert names == {'encoder', 'decoder'}
