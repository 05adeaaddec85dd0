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
