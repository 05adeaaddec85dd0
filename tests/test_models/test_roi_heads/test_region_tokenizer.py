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
    assert tokens.shape == (5, 16) and (tokens.sum(dim=1) > 0).all()
    # regions do not mix
    torch.testing.assert_close(tokenizer(feats.flip(0)), tokens.flip(0))
    # the layout inside the box counts
    assert not torch.allclose(tokenizer(feats.flip(-1)), tokens)
    # and, no LayerNorm being at the end, how strongly a region answers
    assert tokenizer(feats * 100).norm() > 3 * tokens.norm()


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
