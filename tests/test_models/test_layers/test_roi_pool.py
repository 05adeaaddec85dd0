import math

import pytest
import torch
from mmcv.ops import RoIPool

from mmfgl.models.layers import DeviceRoIPool


def reference(feats, rois, size, scale):
    """mmcv's CUDA kernel, bin by bin."""
    _, channels, height, width = feats.shape
    out = []
    for image, x1, y1, x2, y2 in rois.tolist():
        x1, y1 = x1 * scale, y1 * scale
        w, h = (x2 + 1) * scale - x1, (y2 + 1) * scale - y1
        for i in range(size[0]):
            rows = bounds(y1, h / size[0], i, height)
            for j in range(size[1]):
                columns = bounds(x1, w / size[1], j, width)
                cells = feats[int(image), :, rows, columns].flatten(1)
                if w <= 0 or h <= 0 or not cells.numel():
                    out.append(feats.new_zeros(channels))
                else:
                    # the gradient goes to the first of equal maxima
                    out.append(cells.max(dim=1).values)
    out = torch.stack(out).view(len(rois), *size, channels)
    return out.permute(0, 3, 1, 2)


def bounds(start, step, index, size):
    first = math.floor(index * step + start)
    last = math.ceil((index + 1) * step + start)
    return slice(min(max(first, 0), size), min(max(last, 0), size))


def case(num, seed=0, size=(13, 10)):
    """Maps with many equal values, and RoIs inside, across and outside."""
    generator = torch.Generator().manual_seed(seed)
    feats = torch.randint(-4, 4, (2, 3, *size), generator=generator).float()
    # quarters of pixels at strides of powers of two: exact in floats
    corner = torch.randint(-80, 300, (num, 2), generator=generator) / 4
    sides = torch.randint(0, 300, (num, 2), generator=generator) / 4
    image = torch.randint(0, 2, (num, 1), generator=generator)
    rois = torch.cat([image, corner, corner + sides], dim=1)
    rois[-1, 3] = rois[-1, 1] - 2  # a negative side
    return feats, rois


@pytest.mark.parametrize(
    ('size', 'offset'),
    [
        ((1, 1), 0.0137),
        ((3, 3), 0.0137),
        # steps of a seventh are inexact: keep cell borders out of the way
        ((7, 7), 0.0137),
        ((2, 5), 0.0137),
        ((4, 2), 0),  # exactly on cell borders
    ],
)
@pytest.mark.parametrize('stride', [4, 8])
def test_equals_the_kernel(size, offset, stride):
    feats, rois = case(num=16)
    rois[:, 1:] += offset
    feats.requires_grad_()
    seen = DeviceRoIPool(size, 1 / stride)(feats, rois)
    expected = reference(feats, rois, size, 1 / stride)
    assert torch.equal(seen, expected)
    assert not seen[-1].any()
    weight = torch.randn(seen.shape)
    grads = (
        torch.autograd.grad((out * weight).sum(), feats)[0]
        for out in (seen, expected)
    )
    torch.testing.assert_close(*grads)


def test_a_whole_map():
    feats = torch.arange(16.0).view(1, 1, 4, 4)
    rois = torch.tensor([[0, 0.0, 0, 15, 15], [0, 0, 0, 1000, 1000]])
    seen = DeviceRoIPool((2, 2), 0.25)(feats, rois)
    assert seen[0].flatten().tolist() == [5, 7, 13, 15]
    # bins beyond the map are empty, hence 0
    assert seen[1].flatten().tolist() == [15, 0, 0, 0]
    assert DeviceRoIPool((3, 2), 0.25)(feats, rois[:0]).shape == (0, 1, 3, 2)


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
