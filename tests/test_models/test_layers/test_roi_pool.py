import math

import pytest
import torch
from mmcv.ops import RoIPool

from mmfgl.models.layers import DeviceRoIPool


def reference(feats, rois, size, scale):
    """mmcv's CUDA kernel, bin by bin; also the cells of the maxima."""
    _, channels, height, width = feats.shape
    out = torch.zeros(len(rois), channels, *size)
    argmax = torch.full(out.shape, -1)
    for r, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        x1, y1 = x1 * scale, y1 * scale
        w, h = (x2 + 1) * scale - x1, (y2 + 1) * scale - y1
        if w <= 0 or h <= 0:
            continue
        for i in range(size[0]):
            for j in range(size[1]):
                rows = bounds(y1, h / size[0], i, height)
                columns = bounds(x1, w / size[1], j, width)
                for c in range(channels):
                    best = -math.inf
                    for y in range(*rows):
                        for x in range(*columns):
                            value = feats[int(image), c, y, x]
                            if value > best:
                                best = value
                                out[r, c, i, j] = value
                                argmax[r, c, i, j] = y * width + x
    return out, argmax


def bounds(start, step, index, size):
    first = math.floor(index * step + start)
    last = math.ceil((index + 1) * step + start)
    return min(max(first, 0), size), min(max(last, 0), size)


def case(seed=0, size=(13, 10), num=24):
    """Maps with many equal values, and RoIs inside, across and outside."""
    generator = torch.Generator().manual_seed(seed)
    feats = torch.randint(-4, 4, (2, 3, *size), generator=generator).float()
    # quarters of pixels at strides of powers of two: exact in floats
    corner = torch.randint(-80, 300, (num, 2), generator=generator) / 4
    sides = torch.randint(0, 300, (num, 2), generator=generator) / 4
    image = torch.randint(0, 2, (num, 1), generator=generator)
    return feats, torch.cat([image, corner, corner + sides], dim=1)


@pytest.mark.parametrize('size', [(1, 1), (3, 3), (7, 7), (2, 5)], ids=str)
@pytest.mark.parametrize('stride', [4, 8])
def test_equals_the_kernel(size, stride):
    feats, rois = case(num=12)
    # steps of a seventh are inexact: keep cell borders out of the way
    rois[:, 1:] += 0.0137
    feats.requires_grad_()
    seen = DeviceRoIPool(size, 1 / stride)(feats, rois)
    expected, argmax = reference(feats.detach(), rois, size, 1 / stride)
    assert torch.equal(seen, expected)
    assert (argmax == -1).any() or size == (1, 1)

    weight = torch.randn(seen.shape)
    (seen * weight).sum().backward()
    grad = torch.zeros_like(feats).flatten(2)
    for r, image in enumerate(rois[:, 0].long()):
        for c in range(3):
            for cell, w in zip(argmax[r, c].flatten(), weight[r, c].flatten()):
                if cell >= 0:
                    grad[image, c, cell] += w
    torch.testing.assert_close(feats.grad.flatten(2), grad)


def test_exact_cell_borders():
    feats, rois = case(num=12)
    seen = DeviceRoIPool((4, 2), 0.25)(feats, rois)
    assert torch.equal(seen, reference(feats, rois, (4, 2), 0.25)[0])


def test_a_whole_map():
    feats = torch.arange(16.0).view(1, 1, 4, 4)
    rois = torch.tensor([[0, 0.0, 0, 15, 15], [0, 0, 0, 1000, 1000]])
    seen = DeviceRoIPool((2, 2), 0.25)(feats, rois)
    assert seen[0].flatten().tolist() == [5, 7, 13, 15]
    # bins beyond the map are empty, hence 0
    assert seen[1].flatten().tolist() == [15, 0, 0, 0]


def test_negative_sides_give_nothing():
    feats = torch.randn(1, 2, 5, 5).sub(9).requires_grad_()
    rois = torch.tensor([[0, 12.0, 3, 2, 9]])
    seen = DeviceRoIPool((3, 3), 0.25)(feats, rois)
    assert not seen.any()
    seen.sum().backward()
    assert not feats.grad.any()


def test_on_a_gpu_it_is_mmcvs(monkeypatch):
    feats = torch.zeros(1, 1, 4, 4, device='meta')
    monkeypatch.setattr(RoIPool, 'forward', lambda self, x, rois: (x, rois))
    seen = DeviceRoIPool(7, 0.25)(feats, None)
    assert seen[0] is feats and seen[1] is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_equals_mmcv_on_a_gpu():
    feats, rois = case(num=40)
    rois[:, 1:] += 0.0137
    cpu = DeviceRoIPool((7, 7), 0.125)(feats, rois)
    gpu = DeviceRoIPool(7, 0.125).cuda()(feats.cuda(), rois.cuda())
    assert torch.equal(cpu, gpu.cpu())
