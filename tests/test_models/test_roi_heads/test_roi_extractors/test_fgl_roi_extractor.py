import pytest
import torch
from mmcv.ops import RoIPool
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from mmfgl.models.layers import DeviceRoIPool
from mmfgl.models.roi_heads import FGLRoIExtractor
from mmfgl.testing import stir

ALIGN = dict(type='RoIAlign', output_size=3, sampling_ratio=2)
POOL = dict(type='RoIPool', output_size=3)
OPTIONS = dict(out_channels=4, featmap_strides=[4, 8], finest_scale=16)


@pytest.fixture(autouse=True)
def pool_on_cpu(monkeypatch):
    """Let the parent's RoIPool run: mmcv's has no CPU kernel."""
    monkeypatch.setattr(RoIPool, 'forward', DeviceRoIPool.forward)


def pyramid(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, 4, side, side, generator=generator).to(dtype)
        for side in (16, 8)
    )


def make_rois():
    return torch.tensor(
        [
            [0, 3.0, 5, 15, 13],  # finest level
            [1, 0.0, 2, 40, 60],  # coarser level
            [1, 20.3, 30.6, 31, 60.2],
        ]
    )


@pytest.mark.parametrize('layer', [ALIGN, POOL], ids=lambda x: x['type'])
def test_pixel_plus_spatial_features(layer):
    extractor = stir(FGLRoIExtractor(layer, **OPTIONS))
    parent = SingleRoIExtractor(layer, **OPTIONS)
    rois = make_rois()
    pixel = parent(pyramid(), rois)
    assert (pixel.flatten(1).std(dim=1) > 0).all()
    width, height = rois[:, 3] - rois[:, 1], rois[:, 4] - rois[:, 2]
    geometry = torch.stack(
        [(width / 16).log(), (height / 16).log(), (width / height).log()], 1
    )
    linear = extractor.geometry_embedding
    geometry = geometry @ linear.weight.T + linear.bias
    expected = pixel + extractor.cell_embedding + geometry[:, :, None, None]
    torch.testing.assert_close(extractor(pyramid(), rois), expected)


@pytest.mark.parametrize('layer', [ALIGN, POOL], ids=lambda x: x['type'])
def test_without_spatial_features_it_is_the_parent(layer):
    extractor = FGLRoIExtractor(layer, spatial_features=False, **OPTIONS)
    assert not list(extractor.parameters())
    expected = SingleRoIExtractor(layer, **OPTIONS)(pyramid(), make_rois())
    assert torch.equal(extractor(pyramid(), make_rois()), expected)


def test_roi_scale_factor_reaches_the_parent():
    extractor = FGLRoIExtractor(ALIGN, spatial_features=False, **OPTIONS)
    parent = SingleRoIExtractor(ALIGN, **OPTIONS)
    args = pyramid(), make_rois(), 1.5
    expected = parent(*args)
    assert torch.equal(extractor(*args), expected)
    assert not torch.equal(expected, parent(*args[:2]))


def test_geometry_is_of_the_box_not_of_its_place():
    extractor = stir(FGLRoIExtractor(ALIGN, **OPTIONS))
    rois = torch.tensor(
        [[0, 8.0, 8, 20, 16], [1, 30, 40, 42, 48], [0, 8, 8, 20, 17]]
    )
    flat = tuple(torch.ones_like(level) for level in pyramid())
    here, there, taller = extractor(flat, rois)
    torch.testing.assert_close(here, there)
    assert not torch.allclose(here, taller)


@pytest.mark.parametrize('spatial', [True, False])
def test_bf16_features_under_autocast(spatial):
    extractor = stir(
        FGLRoIExtractor(ALIGN, spatial_features=spatial, **OPTIONS)
    )
    feats = pyramid(torch.bfloat16)
    expected = extractor(tuple(f.float() for f in feats), make_rois())
    with torch.autocast('cpu', torch.bfloat16):
        seen = extractor(feats, make_rois())
    assert seen.dtype == torch.float32
    # the linear layer of the geometry rounds, the coordinates do not
    tolerance = 0.03 if spatial else 0
    torch.testing.assert_close(seen, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_channels_last_features(dtype):
    extractor = FGLRoIExtractor(ALIGN, spatial_features=False, **OPTIONS)
    feats = pyramid(dtype)
    expected = extractor(feats, make_rois())
    feats = tuple(f.to(memory_format=torch.channels_last) for f in feats)
    assert torch.equal(extractor(feats, make_rois()), expected)


def test_no_roi():
    extractor = FGLRoIExtractor(ALIGN, **OPTIONS)
    feats = tuple(level.requires_grad_() for level in pyramid())
    out = extractor(feats, torch.zeros(0, 5))
    assert out.shape == (0, 4, 3, 3)
    out.sum().backward()
    grads = [level.grad for level in feats]
    grads += [param.grad for param in extractor.parameters()]
    assert len(grads) == 5
    for grad in grads:
        assert grad is not None and not grad.any()


def test_every_parameter_gets_a_gradient():
    extractor = FGLRoIExtractor(ALIGN, **OPTIONS)
    extractor(pyramid(), make_rois()).square().sum().backward()
    for name, param in extractor.named_parameters():
        assert param.grad is not None and param.grad.any(), name


def test_box_without_area_is_finite():
    extractor = FGLRoIExtractor(ALIGN, **OPTIONS)
    rois = torch.tensor([[0, 8.0, 8, 8, 8], [0, 8, 8, 30, 8]])
    assert extractor(pyramid(), rois).isfinite().all()


def test_roi_pool_without_a_gpu(monkeypatch):
    monkeypatch.undo()
    extractor = FGLRoIExtractor(POOL, **OPTIONS)
    assert [type(layer) for layer in extractor.roi_layers] == [
        DeviceRoIPool
    ] * 2
    assert [layer.spatial_scale for layer in extractor.roi_layers] == [
        1 / 4,
        1 / 8,
    ]
    assert POOL['type'] == 'RoIPool'
    assert extractor(pyramid(), make_rois()).isfinite().all()


def squeeze_conv(channels, bias=True):
    return stir(torch.nn.Conv2d(channels, 2, 1, bias=bias))


def both_orders(monkeypatch, extractor, conv, feats, rois):
    """Squeezed features, pyramid first and RoIs first."""
    results = []
    for first in (True, False):
        monkeypatch.setattr(
            extractor, '_squeezing_first_is_cheaper', lambda *_, f=first: f
        )
        results.append(extractor.squeezed(feats, rois, conv))
    return results


@pytest.mark.parametrize('spatial', [True, False])
@pytest.mark.parametrize('scales', [(), (1.5, 2.0)], ids=str)
@pytest.mark.parametrize('bias', [True, False])
def test_squeezing_first_changes_nothing(monkeypatch, spatial, scales, bias):
    extractor = stir(
        FGLRoIExtractor(
            ALIGN, spatial_features=spatial, context_scales=scales, **OPTIONS
        )
    )
    conv = squeeze_conv(4 * (1 + len(scales)), bias)
    feats = tuple(level.requires_grad_() for level in pyramid())
    # the last reaches out of the image
    rois = torch.cat([make_rois(), torch.tensor([[1, -9.0, 40, 80, 99]])])
    before, after = both_orders(monkeypatch, extractor, conv, feats, rois)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)
    inputs = [*feats, *conv.parameters(), *extractor.parameters()]
    for one, other in zip(
        torch.autograd.grad(before.square().sum(), inputs),
        torch.autograd.grad(after.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_order_follows_the_cost_and_the_operator():
    extractor = FGLRoIExtractor(ALIGN, **OPTIONS)
    few, many = make_rois(), make_rois().repeat(20, 1)
    assert not extractor._squeezing_first_is_cheaper(pyramid(), few[:1])
    assert extractor._squeezing_first_is_cheaper(pyramid(), many)
    # a maximum is not linear
    for layer in (POOL, dict(ALIGN, pool_mode='max')):
        other = FGLRoIExtractor(layer, **OPTIONS)
        assert not other._squeezing_first_is_cheaper(pyramid(), many)
        conv = squeeze_conv(4)
        expected = conv(other(pyramid(), many))
        assert torch.equal(other.squeezed(pyramid(), many, conv), expected)


@pytest.mark.parametrize('layer', [ALIGN, POOL], ids=lambda x: x['type'])
def test_context_windows_are_further_channels(layer):
    plain = FGLRoIExtractor(layer, spatial_features=False, **OPTIONS)
    extractor = FGLRoIExtractor(
        layer, spatial_features=False, context_scales=(1.5, 2.0), **OPTIONS
    )
    seen = extractor(pyramid(), make_rois())
    expected = [plain(pyramid(), make_rois(), s) for s in (None, 1.5, 2.0)]
    assert torch.equal(seen, torch.cat(expected, dim=1))
    assert not torch.equal(expected[0], expected[1])
    with pytest.raises(ValueError, match='exceed 1'):
        FGLRoIExtractor(layer, context_scales=(1.0,), **OPTIONS)


def test_squeezed_no_roi_and_bf16(monkeypatch):
    extractor = FGLRoIExtractor(ALIGN, **OPTIONS)
    conv = squeeze_conv(4)
    feats = tuple(level.requires_grad_() for level in pyramid())
    for out in both_orders(
        monkeypatch, extractor, conv, feats, torch.zeros(0, 5)
    ):
        assert out.shape == (0, 2, 3, 3)
        out.sum().backward()
        assert all(p.grad is not None for p in extractor.parameters())
    expected, _ = both_orders(
        monkeypatch, extractor, conv, pyramid(), make_rois()
    )
    with torch.autocast('cpu', torch.bfloat16):
        for out in both_orders(
            monkeypatch,
            extractor,
            conv,
            pyramid(torch.bfloat16),
            make_rois(),
        ):
            torch.testing.assert_close(
                out.float(), expected, atol=0.05, rtol=0.05
            )
