import pytest
import torch

from mmfgl.models.roi_heads import RegionTokenizer


@pytest.fixture(params=[2, None], ids=['squeeze', 'plain'])
def tokenizer(request):
    torch.manual_seed(0)
    return RegionTokenizer(
        in_channels=4,
        roi_feat_size=3,
        embed_dims=16,
        squeeze_channels=request.param,
    )


def features(num=5):
    return torch.randn(
        num, 4, 3, 3, generator=torch.Generator().manual_seed(1)
    )


def test_one_token_a_region(tokenizer):
    feats = features()
    tokens = tokenizer(feats)
    assert tokens.shape == (5, 16)
    assert (tokens >= 0).all() and (tokens.sum(dim=1) > 0).all()
    # regions do not mix
    order = torch.tensor([3, 0, 4])
    torch.testing.assert_close(tokenizer(feats[order]), tokens[order])


def test_what_tells_tokens_apart(tokenizer):
    feats = features()
    # the layout inside the box
    assert not torch.allclose(tokenizer(feats), tokenizer(feats.flip(-1)))
    # and, no LayerNorm being at the end, how strongly a region answers
    weak, strong = tokenizer(feats), tokenizer(feats * 100)
    assert strong.norm() > 3 * weak.norm()


@pytest.mark.parametrize('num', [5, 0])
def test_every_parameter_gets_a_gradient(tokenizer, num):
    boxes = torch.tensor([0.1, 0.2, 0.5, 0.9]).expand(num, 4)
    out = tokenizer(features(num)) + tokenizer.embed_position(boxes)
    assert out.shape == (num, 16)
    out.pow(3).sum().backward()
    for name, param in tokenizer.named_parameters():
        assert param.grad is not None, name
        assert param.grad.any() == (num > 0), name


def test_position_embedding_keeps_leading_dimensions(tokenizer):
    boxes = torch.rand(2, 3, 4).sort(dim=-1).values
    pos_embed = tokenizer.embed_position(boxes)
    assert pos_embed.shape == (2, 3, 16)
    torch.testing.assert_close(
        pos_embed[1, 2], tokenizer.embed_position(boxes[1, 2])
    )


def test_squeeze_is_linear_and_starts_orthogonal(tokenizer):
    x, squeeze = features(), tokenizer.squeeze
    if squeeze is not None:
        weight = squeeze.weight.flatten(1)  # (c, C)
        torch.testing.assert_close(weight @ weight.T, torch.eye(2))
        x = squeeze(x)
    assert torch.equal(tokenizer.read(x), tokenizer(features()))
    # a ReLU before the hidden layer would slow learning down
    hidden = tokenizer.hidden(x.flatten(1)).relu()
    expected = tokenizer.project(hidden).relu()
    torch.testing.assert_close(tokenizer.read(x), expected)
