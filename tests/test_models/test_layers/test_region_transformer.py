import pytest
import torch

from mmfgl.models.layers import RegionTransformer
from mmfgl.testing import randomise_weights

IMAGES, TOKENS, QUERIES, DIMS, HEADS = 2, 9, 4, 16, 4


@pytest.fixture
def transformer():
    return randomise_weights(RegionTransformer(DIMS, HEADS, 2, 2))


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


def test_encoder_is_permutation_equivariant(transformer, tokens, mask):
    order = torch.randperm(TOKENS, generator=torch.manual_seed(4))
    out = transformer.encode(tokens, mask)
    mixed = transformer.encode(tokens[:, order], mask[:, order][:, :, order])
    torch.testing.assert_close(mixed, out[:, order], atol=1e-5, rtol=1e-5)
    # and the mask matters
    other = transformer.encode(tokens[:, order], mask)
    assert not torch.allclose(other, out[:, order], atol=1e-2)


def test_what_the_decoder_ignores(transformer, tokens, mask, queries):
    mask = mask[:, :QUERIES]
    out = transformer.decode(queries, tokens, mask)
    # the order of its memory
    order = torch.randperm(TOKENS, generator=torch.manual_seed(4))
    mixed = transformer.decode(queries, tokens[:, order], mask[..., order])
    torch.testing.assert_close(mixed, out, atol=1e-5, rtol=1e-5)
    # its scale: the memory is normalised
    scaled = transformer.decode(queries, tokens * 10 + 3, mask)
    torch.testing.assert_close(scaled, out, atol=1e-3, rtol=1e-3)
    # other queries
    alone = transformer.decode(queries[:, 1:2], tokens, mask[:, 1:2])
    torch.testing.assert_close(alone, out[:, 1:2], atol=1e-5, rtol=1e-5)


def test_closed_candidates_have_no_influence(
    transformer, tokens, mask, queries
):
    closed = 5
    mask[:, :, closed] = False
    mask[:, closed, closed] = True
    others = [i for i in range(TOKENS) if i != closed]
    tokens.requires_grad_()
    before = transformer.encode(tokens, mask)
    before[:, others].sum().backward()
    assert not tokens.grad[:, closed].any() and tokens.grad[:, others].any()
    changed = tokens.detach().clone()
    changed[:, closed] = 100 * torch.randn(
        IMAGES, DIMS, generator=torch.manual_seed(4)
    )
    after = transformer.encode(changed, mask)
    assert torch.equal(before[:, others], after[:, others])
    assert (before[:, closed] - after[:, closed]).abs().min() > 1e-2
    mask = mask[:, :QUERIES]
    assert torch.equal(
        transformer.decode(queries, tokens, mask),
        transformer.decode(queries, changed, mask),
    )


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


def answered(transformer, sizes, seed=0):
    """Answers for images of (candidates, targets), and the inputs."""
    generator = torch.Generator().manual_seed(seed)
    tokens, masks, targets, boxes = [], [], [], []
    for num, asked in sizes:
        tokens.append(torch.randn(num, DIMS, generator=generator))
        mask = torch.rand(num, num, generator=generator) > 0.5
        masks.append(mask | torch.eye(num, dtype=torch.bool))
        order = torch.randperm(num, generator=generator)
        targets.append(order[:asked].sort().values)
        corners = torch.rand(num, 2, 2, generator=generator) * 50
        boxes.append(corners.sort(dim=1).values.flatten(1))
    given = tokens, masks, targets, boxes
    return transformer(*given), given


@pytest.mark.parametrize('layers', [(1, 2), (0, 1), (2, 0), (0, 0)], ids=str)
@pytest.mark.parametrize('bias', [False, True])
def test_answers_are_those_of_encoder_and_decoder(layers, bias):
    encoders, decoders = layers
    bias = bias and layers != (0, 0)
    transformer = randomise_weights(
        RegionTransformer(DIMS, HEADS, *layers, geometry_bias=bias)
    )
    sizes = [(7, 3), (5, 5), (7, 3), (0, 0), (4, 0)]
    answers, given = answered(transformer, sizes)
    assert len(answers) == len(sizes)
    for answer, token, mask, target, box in zip(answers, *given, strict=True):
        memory = transformer.encode(token[None], mask[None], box[None])
        queries = token[None] if decoders else memory
        expected = transformer.decode(
            queries[:, target],
            memory,
            mask[None, target],
            box[None, target],
            box[None],
        )
        torch.testing.assert_close(answer, expected[0], atol=1e-5, rtol=1e-4)
        if not decoders:
            # the encoder's rows are the answer
            assert torch.equal(expected, memory[:, target])


@pytest.mark.parametrize('layers', [(1, 1), (1, 0), (0, 1)], ids=str)
@pytest.mark.parametrize(
    'sizes', [[(6, 6), (0, 0)], [(0, 0), (0, 0)], [(1, 1)], [(5, 0)]], ids=str
)
def test_every_parameter_gets_a_gradient(layers, sizes):
    transformer = randomise_weights(
        RegionTransformer(DIMS, HEADS, *layers, geometry_bias=True)
    )
    answers, _ = answered(transformer, sizes)
    torch.cat(answers).square().sum().backward()
    for name, parameter in transformer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if sizes[0] == (6, 6):
        assert all(p.grad.any() for p in transformer.geometry.parameters())
