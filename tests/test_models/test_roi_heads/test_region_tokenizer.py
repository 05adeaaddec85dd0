import torch
from torch import nn

from mmfgl.models.roi_heads import RegionTokenizer
from mmfgl.registry import MODELS


def build(**changes):
    torch.manual_seed(0)
    return RegionTokenizer(
        **dict(
            in_channels=4,
            roi_feat_size=3,
            embed_dims=16,
            squeeze_channels=2,
            **changes,
        )
    )


def features(num=5):
    return torch.randn(
        num, 4, 3, 3, generator=torch.Generator().manual_seed(1)
    )


def test_one_token_a_region():
    tokens = build()(features())
    assert tokens.shape == (5, 16)
    assert (tokens >= 0).all() and (tokens.sum(dim=1) > 0).all()


def test_regions_do_not_mix():
    tokenizer, feats = build(), features()
    expected = tokenizer(feats)
    order = torch.tensor([3, 0, 4])
    torch.testing.assert_close(tokenizer(feats[order]), expected[order])


def test_layout_inside_the_box_is_kept():
    tokenizer, feats = build(), features()
    assert not torch.allclose(tokenizer(feats), tokenizer(feats.flip(-1)))


def test_no_region():
    tokenizer = build()
    tokens = tokenizer(features(0))
    assert tokens.shape == (0, 16)
    places = tokenizer.embed_position(torch.zeros(0, 4))
    (tokens.sum() + places.sum()).backward()
    for name, param in tokenizer.named_parameters():
        assert param.grad is not None and not param.grad.any(), name


def test_every_parameter_gets_a_gradient():
    tokenizer = build()
    boxes = torch.tensor([0.1, 0.2, 0.5, 0.9]).expand(5, 4)
    out = tokenizer(features()) + tokenizer.embed_position(boxes)
    out.pow(3).sum().backward()
    for name, param in tokenizer.named_parameters():
        assert param.grad is not None and param.grad.any(), name


def test_position_embedding_keeps_leading_dimensions():
    tokenizer = build()
    boxes = torch.rand(2, 3, 4).sort(dim=-1).values
    places = tokenizer.embed_position(boxes)
    assert places.shape == (2, 3, 16)
    torch.testing.assert_close(
        places[1, 2], tokenizer.embed_position(boxes[1, 2])
    )


class CentrePosition(nn.Module):
    def forward(self, boxes):
        return (boxes[..., :2] + boxes[..., 2:]) / 2


def test_other_position_embedding():
    MODELS.register_module(module=CentrePosition)
    try:
        tokenizer = build(position_embedding=dict(type='mmfgl.CentrePosition'))
    finally:
        MODELS.module_dict.pop('CentrePosition')
    place = tokenizer.embed_position(torch.tensor([0.0, 0.5, 1.0, 0.5]))
    assert place.tolist() == [0.5, 0.5]


def test_hidden_layer():
    tokenizer, feats = build(hidden_channels=24), features()
    assert tokenizer(feats).shape == (5, 16)
    x = tokenizer.squeeze(feats)
    assert torch.equal(tokenizer.read(x), tokenizer(feats))
    # linear up to the hidden layer: a ReLU between them slows learning down
    hidden = tokenizer.hidden(x.flatten(1)).relu()
    torch.testing.assert_close(
        tokenizer(feats), tokenizer.project(hidden).relu()
    )


def test_squeeze_starts_orthogonal():
    weight = build().squeeze.weight.flatten(1)  # (c, C)
    torch.testing.assert_close(weight @ weight.T, torch.eye(2))


def test_no_squeeze():
    torch.manual_seed(0)
    tokenizer = RegionTokenizer(
        in_channels=4, roi_feat_size=3, embed_dims=16, squeeze_channels=None
    )
    feats = features()
    assert not any('squeeze' in n for n, _ in tokenizer.named_parameters())
    assert torch.equal(tokenizer(feats), tokenizer.read(feats))


def test_length_tells_tokens_apart():
    # a LayerNorm at the end would hide how strongly a region answers
    tokenizer, feats = build(), features()
    weak, strong = tokenizer(feats), tokenizer(feats * 100)
    assert strong.norm() > 3 * weak.norm()
