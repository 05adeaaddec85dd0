import pytest
import torch

from mmfgl.models.layers import RegionTransformer
from mmfgl.testing import assert_trained, randomise_weights

IMAGES, TOKENS, QUERIES, DIMS, HEADS = 2, 9, 4, 16, 4


@pytest.fixture
def transformer():
    return randomise_weights(
        RegionTransformer(DIMS, HEADS, 2, 2, geometry_bias=True)
    )


@pytest.fixture
def case():
    """Tokens, mask and boxes of the candidates of two images."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(IMAGES, TOKENS, DIMS, generator=generator)
    mask = torch.rand(IMAGES, TOKENS, TOKENS, generator=generator) > 0.5
    mask = mask | torch.eye(TOKENS, dtype=torch.bool)
    corners = torch.rand(IMAGES, TOKENS, 2, 2, generator=generator) * 50
    return tokens, mask, corners.sort(dim=2).values.flatten(2)


def asked(tokens, mask, boxes):
    """Arguments of ``decode``: the first candidates ask all of them."""
    first = slice(0, QUERIES)
    return tokens[:, first], tokens, mask[:, first], boxes[:, first], boxes


def test_starts_as_the_identity(case):
    transformer = RegionTransformer(DIMS, HEADS, 2, 2)
    for _ in range(2):
        assert torch.equal(transformer.encode(*case), case[0])
        decoded = transformer.decode(*asked(*case))
        assert torch.equal(decoded, case[0][:, :QUERIES])
        transformer.init_weights()  # what MMEngine's runner calls


def test_leaves_the_identity_after_a_step(case):
    torch.manual_seed(0)
    transformer = RegionTransformer(DIMS, HEADS, 1, 0)
    optimizer = torch.optim.SGD(transformer.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        out = transformer.encode(*case)
        losses.append((out - case[0].roll(1, dims=1)).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses == sorted(losses, reverse=True)
    # from the second step on gradients reach all of the attention
    assert all(param.grad.any() for param in transformer.parameters())


def test_order_of_the_candidates(transformer, case):
    tokens, mask, boxes = case
    order = torch.randperm(TOKENS, generator=torch.manual_seed(4))
    mixed = tokens[:, order], mask[:, order][:, :, order], boxes[:, order]
    memory = transformer.encode(*case)
    seen = transformer.encode(*mixed)
    torch.testing.assert_close(seen, memory[:, order], atol=1e-5, rtol=1e-5)
    # and the mask matters
    other = transformer.encode(mixed[0], mask, mixed[2])
    assert not torch.allclose(other, memory[:, order], atol=1e-2)
    queries, _, rows, some, _ = asked(*case)
    out = transformer.decode(queries, tokens, rows, some, boxes)
    seen = transformer.decode(
        queries, mixed[0], rows[..., order], some, mixed[2]
    )
    torch.testing.assert_close(seen, out, atol=1e-5, rtol=1e-5)


def test_closed_candidates_have_no_influence(transformer, case):
    tokens, mask, boxes = case
    closed = 5
    mask[:, :, closed] = False
    mask[:, closed, closed] = True
    others = [i for i in range(TOKENS) if i != closed]
    changed = tokens.clone()
    changed[:, closed] = 100 * tokens[:, closed].flip(-1)
    before, after = (
        transformer.encode(values, mask, boxes) for values in (tokens, changed)
    )
    assert torch.equal(before[:, others], after[:, others])
    assert (before[:, closed] - after[:, closed]).abs().min() > 1e-2
    queries, _, *rest = asked(*case)
    before, after = (
        transformer.decode(queries, values, *rest)
        for values in (tokens, changed)
    )
    assert torch.equal(before, after)


@pytest.mark.parametrize('autocast', [False, True])
def test_rows_with_one_open_column_have_finite_gradients(
    transformer, case, autocast
):
    tokens, _, boxes = case
    mask = torch.eye(TOKENS, dtype=torch.bool).expand(IMAGES, -1, -1)
    tokens.requires_grad_()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        memory = transformer.encode(tokens, mask, boxes)
        out = transformer.decode(*asked(memory, mask, boxes))
    assert_trained(transformer, out.float().square().mean())
    assert tokens.grad.isfinite().all()


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
    if encoders or decoders:
        assert_trained(transformer, torch.cat(answers).square().sum())
    if bias:
        assert all(p.grad.any() for p in transformer.geometry.parameters())
