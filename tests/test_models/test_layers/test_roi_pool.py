import math

import numpy as np
import pytest
import torch
from mmcv.ops import RoIPool

from mmfgl.models.layers import DeviceRoIPool


def reference(feats, rois, size, scale):
    """mmcv's CUDA kernel, bin by bin."""

    def cells(start, length, bins, index, limit):
        first = math.floor(start + index * (length / bins))
        last = math.ceil(start + (index + 1) * (length / bins))
        return slice(min(max(first, 0), limit), min(max(last, 0), limit))

    _, channels, height, width = feats.shape
    out = feats.new_zeros(len(rois), channels, *size)
    for index, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        w, h = (x2 + 1 - x1) * scale, (y2 + 1 - y1) * scale
        for i, j in np.ndindex(*size):
            rows = cells(y1 * scale, h, size[0], i, height)
            columns = cells(x1 * scale, w, size[1], j, width)
            inside = feats[int(image), :, rows, columns].flatten(1)
            if w > 0 and h > 0 and inside.numel():
                # the gradient goes to the first of equal maxima
                out[index, :, i, j] = inside.max(dim=1).values
    return out


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
    'size', [(1, 1), (3, 3), (7, 7), (2, 5), (4, 2)], ids=str
)
@pytest.mark.parametrize('stride', [4, 8])
def test_equals_the_kernel(size, stride):
    feats, rois = case(num=16)
    if size != (4, 2):  # whose bins end exactly on cell borders
        # steps of a seventh are inexact: keep cell borders out of the way
        rois[:, 1:] += 0.0137
    feats.requires_grad_()
    seen = DeviceRoIPool(size, 1 / stride)(feats, rois)
    expected = reference(feats, rois, size, 1 / stride)
    assert torch.equal(seen, expected)
    assert not seen[-1].any()
    assert DeviceRoIPool(size, 1)(feats, rois[:0]).shape == (0, 3, *size)
    weight = torch.randn(seen.shape)
    grads = (
        torch.autograd.grad((out * weight).sum(), feats)[0]
        for out in (seen, expected)
    )
    torch.testing.assert_close(*grads)


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
