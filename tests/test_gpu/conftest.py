"""Tests that need a GPU: ``make test-gpu``.

``MMFGL_TEST_DEVICE=cpu`` runs them on a CPU, to try the tests themselves: what
they compare is then equal anyway, and fp16 is left out.
"""

import os
from contextlib import nullcontext

import pytest
import torch

from mmfgl.engine.optim_wrapper import keep_boxes_in_fp32
from mmfgl.testing import tiny_coco

DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16)


@pytest.fixture(scope='session')
def device():
    """The device under test."""
    device = torch.device(os.environ.get('MMFGL_TEST_DEVICE', 'cuda'))
    if device.type == 'cuda' and not torch.cuda.is_available():
        pytest.fail(
            'these tests need a GPU that PyTorch sees; '
            'MMFGL_TEST_DEVICE=cpu tries them on a CPU'
        )
    # TF32 has 10 bits; the tests compare fp32
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return device


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    return tiny_coco(tmp_path_factory.mktemp('gpu') / 'data')


class Precision:
    """fp32, fp16 or bf16: an optimizer wrapper, and autocast for tests."""

    def __init__(self, name, device):
        self.dtype = DTYPES.get(name)
        self.device = device

    def wrapper(self, cfg):
        """A config of an optimizer wrapper in this precision."""
        cfg = dict(cfg)
        if self.dtype is None:
            return cfg
        if self.device.type == 'cpu':
            return cfg | dict(type='mmfgl.CPUAmpOptimWrapper')
        cfg |= dict(type='AmpOptimWrapper', dtype=str(self.dtype)[6:])
        if self.dtype is torch.float16:
            # small enough that the first step does not overflow
            cfg['loss_scale'] = dict(init_scale=64.0)
        return cfg

    def prepare(self, model):
        """mmcv knows no bf16: the own heads cast, mmdet's do not."""
        if self.dtype is torch.bfloat16 and self.device.type != 'cpu':
            keep_boxes_in_fp32(model)

    def autocast(self):
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


@pytest.fixture(params=['fp32', 'fp16', 'bf16'])
def precision(request, device):
    name = request.param
    if device.type == 'cpu' and name == 'fp16':
        name = 'bf16'  # autocast on CPUs trains in no other
    return Precision(name, device)
