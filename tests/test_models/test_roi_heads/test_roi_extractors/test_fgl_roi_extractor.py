import pytest
import torch
from mmcv.ops import RoIPool
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from mmfgl.models.layers import DeviceRoIPool
from mmfgl.models.roi_heads import FGLRoIExtractor
from mmfgl.testing import half_dtypes, randomise_weights

ALIGN = dict(type='RoIAlign', output_size=3, sampling_ratio=2)
POOL = dict(type='RoIPool', output_size=3)
OPTIONS = dict(out_channels=4, featmap_strides=[4, 8], finest_scale=16)


def build(layer=ALIGN):
    return randomise_weights(FGLRoIExtractor(layer, **OPTIONS))


def pyramid(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, 4, side, side, generator=generator).to(dtype)
        for side in (16, 8)
    )


def make_rois():
    """From the finest level, from a coarser one, and of another image."""
    return torch.tensor(
        [[0, 3.0, 5, 15, 13], [1, 0, 2, 40, 60], [1, 20.3, 30.6, 31, 60.2]]
    )


@pytest.mark.parametrize('layer', [ALIGN, POOL], ids=lambda x: x['type'])
@pytest.mark.parametrize('scale', [None, 1.5])
def test_pixel_plus_spatial_features(monkeypatch, layer, scale):
    extractor = build(layer)
    assert layer['type'] in ('RoIAlign', 'RoIPool')  # no config is changed
    # mmcv's RoIPool, which the parent builds, has no CPU kernel
    monkeypatch.setattr(RoIPool, 'forward', DeviceRoIPool.forward)
    parent = SingleRoIExtractor(layer, **OPTIONS)
    rois = make_rois()
    pixel = parent(pyramid(), rois, scale)
    assert (pixel.flatten(1).std(dim=1) > 0).all()
    assert scale is None or not torch.equal(pixel, parent(pyramid(), rois))
    width, height = rois[:, 3] - rois[:, 1], rois[:, 4] - rois[:, 2]
    geometry = torch.stack(
        [(width / 16).log(), (height / 16).log(), (width / height).log()], 1
    )
    linear = extractor.geometry_embedding
    geometry = geometry @ linear.weight.T + linear.bias
    expected = pixel + extractor.cell_embedding + geometry[:, :, None, None]
    feats = [f.to(memory_format=torch.channels_last) for f in pyramid()]
    torch.testing.assert_close(extractor(feats, rois, scale), expected)


@pytest.mark.parametrize(
    ('shift', 'coarse'), [(0, [1]), (1, [0, 1, 2]), (-1, []), ('nearest', [1])]
)
def test_level_shift(shift, coarse):
    extractor, rois = build(), make_rois()
    for param in extractor.parameters():
        param.data.zero_()  # no spatial features
    # without shift, the first and the third RoI are read from level 0
    expected, from_coarse = (
        SingleRoIExtractor(ALIGN, 4, [stride])([level], rois)
        for stride, level in zip((4, 8), pyramid(), strict=True)
    )
    expected[coarse] = from_coarse[coarse]
    seen = extractor(pyramid(), rois, level_shift=shift)
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize('dtype', half_dtypes(), ids=str)
@pytest.mark.parametrize('squeezed', [False, True])
def test_large_rois_keep_their_level_in_half_precision(dtype, squeezed):
    """The area of 300 x 300 pixels is infinite in fp16."""
    strides = [4, 8, 16, 32]
    extractor = FGLRoIExtractor(ALIGN, 1, strides)
    rois = torch.tensor([[0, 0.0, 0, 300, 300], [0, 0, 0, 130, 130]])
    levels = [
        torch.full((1, 1, 512 // s, 512 // s), float(index))
        for index, s in enumerate(strides)
    ]
    squeeze = torch.nn.Conv2d(1, 1, 1) if squeezed else None
    if squeezed:
        torch.nn.init.ones_(squeeze.weight)
    expected = extractor(levels, rois, squeeze=squeeze)
    assert expected[0].mean() > expected[1].mean() + 0.5
    halves = [level.to(dtype) for level in levels]
    with torch.autocast('cpu', dtype):
        seen = extractor(halves, rois, squeeze=squeeze)
    torch.testing.assert_close(seen.float(), expected, atol=0.1, rtol=0)


@pytest.mark.parametrize('layer', [ALIGN, POOL], ids=lambda x: x['type'])
@pytest.mark.parametrize('scale', [None, 1.5])
def test_degenerate_rois_are_finite(layer, scale):
    # a point, a line, inverted in x, in both
    rois = [[0, 8.0, 8, 8, 8], [0, 8, 8, 30, 8]]
    rois += [[1, 30, 8, 8, 20], [1, 60, 60, 8, 8]]
    seen = build(layer)(pyramid(), torch.tensor(rois), scale)
    assert seen.shape == (4, 4, 3, 3) and seen.isfinite().all()


def both_orders(monkeypatch, extractor, squeeze, feats, rois):
    """Squeezed features, pyramid first and RoIs first."""
    for first in (True, False):
        monkeypatch.setattr(extractor, '_squeeze_first', lambda *_, f=first: f)
        yield extractor(feats, rois, squeeze=squeeze)


@pytest.mark.parametrize('bias', [True, False])
def test_squeezing_first_changes_nothing(monkeypatch, bias):
    extractor = build()
    conv = randomise_weights(torch.nn.Conv2d(4, 2, 1, bias=bias))
    feats = tuple(level.requires_grad_() for level in pyramid())
    # the last reaches out of the image
    rois = torch.cat([make_rois(), torch.tensor([[1, -9.0, 40, 80, 99]])])
    before, after = both_orders(monkeypatch, extractor, conv, feats, rois)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
    inputs = [*feats, *conv.parameters(), *extractor.parameters()]
    grads = (
        torch.autograd.grad(out.square().sum(), inputs)
        for out in (before, after)
    )
    torch.testing.assert_close(*grads, atol=1e-3, rtol=1e-3)
    for none in both_orders(monkeypatch, extractor, conv, feats, rois[:0]):
        assert none.shape == (0, 2, 3, 3)
    with torch.autocast('cpu', torch.bfloat16):
        halves = pyramid(torch.bfloat16)
        seen = list(both_orders(monkeypatch, extractor, conv, halves, rois))
    for half in seen:
        torch.testing.assert_close(half.float(), before, atol=0.1, rtol=0.05)


@pytest.mark.parametrize(
    ('layer', 'copies', 'first'),
    [
        (ALIGN, 20, True),
        (ALIGN, 1, False),  # fewer cells than positions in the pyramid
        (POOL, 20, False),  # a maximum is not linear
        (dict(ALIGN, pool_mode='max'), 20, False),
    ],
    ids=str,
)
def test_order_follows_the_cost_and_the_operator(layer, copies, first):
    extractor = build(layer)
    conv = randomise_weights(torch.nn.Conv2d(4, 2, 1))
    rois = make_rois()[:1].repeat(copies, 1)
    shapes = []
    conv.register_forward_hook(lambda _, args, out: shapes.append(out.shape))
    seen = extractor(pyramid(), rois, squeeze=conv)
    assert bool(shapes) != first
    expected = conv(extractor(pyramid(), rois))
    torch.testing.assert_close(seen, expected, atol=1e-5, rtol=1e-4)
