import pytest
import torch

from mmfgl.models.roi_heads import RegionTokenizer


@pytest.fixture(params=[2, None], ids=['squeeze', 'plain'])
def tokenizer(request):
    torch.manual_seed(0)
    return RegionTokenizer(4, 3, 16, squeeze_channels=request.param)


def features():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(5, 4, 3, 3, generator=generator)


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
