"""Every config trains a step and predicts, in fp32, fp16 and bf16."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper

from tests.test_configs import (
    DETECTORS,
    PATHS,
    batch_of,
    build,
    check_results,
    check_tta,
    read,
    scope_of,
)

pytestmark = pytest.mark.gpu
# of fp16: the scale of the loss falls to 1/32
MAX_STEPS = 12


@pytest.mark.parametrize('path', PATHS, ids=lambda p: p.stem)
def test_trains_and_predicts(path, precision, device, data):
    cfg = read(path)
    MessageHub.get_current_instance().update_info('max_iters', 10)
    with scope_of(cfg):
        model = build(cfg).to(device)
        precision.prepare(model)
        check_step(cfg, model, precision, data)
        model.eval()
        if path in DETECTORS:
            check_predictions(cfg, model, precision, data)


def fill_biases(model):
    """As after some training, in place.

    Where all biases are zero, padding stays zero through a ConvNeXt, each
    LayerNorm multiplies its gradient by 1000, and fp16 overflows.
    """
    for name, param in model.named_parameters():
        if 'backbone.' in name and name.endswith('.bias'):
            torch.nn.init.normal_(param, std=0.1)


def check_step(cfg, model, precision, data):
    fill_biases(model)
    if hasattr(model, 'teacher_is_driven'):
        model.teacher_is_driven = True
    model.train()
    wrapper = build_optim_wrapper(model, precision.wrapper(cfg.optim_wrapper))
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    batch = batch_of(cfg.train_dataloader, data, 'train')
    for _ in range(MAX_STEPS):
        log = model.train_step(batch, wrapper)
        assert all(value.isfinite().all() for value in log.values()), log
        moved = 0
        for name, param in model.named_parameters():
            assert param.isfinite().all(), name
            assert param.dtype == torch.float32, name
            moved += not torch.equal(param, before[name])
        if moved:
            break  # else the gradients overflowed, and the scale fell
    # gradients of two images at tiny size underflow in fp16
    assert moved > len(before) // 8
    if hasattr(model, 'update_teacher') and model.teacher is not None:
        model.update_teacher(0.99)
        assert all(p.isfinite().all() for p in model.teacher.parameters())


@torch.no_grad()
def check_predictions(cfg, model, precision, data):
    classes = cfg.model.get('detector', cfg.model).roi_head.bbox_head
    with precision.autocast():
        results = model.val_step(batch_of(cfg.val_dataloader, data, 'val'))
        check_results(results, classes.num_classes)
        if 'tta_model' in cfg:
            check_tta(cfg, model, data)
