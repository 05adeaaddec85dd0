"""Losses in float32, whatever autocast does, and close to a float32 run."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope

from mmfgl.engine.optim_wrapper import CPUAmpOptimWrapper
from mmfgl.registry import MODELS
from mmfgl.testing import (
    detection_batch,
    region_batch,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
    tiny_retod_cfg,
)

TASKS = ('objectness', 'distill', 'mask', 'diversity')
CASES = dict(
    retod=lambda: tiny_retod_cfg(*TASKS),
    balanced=lambda: tiny_retod_cfg(
        *TASKS, balancer=dict(type='mmfgl.TaskAdaptiveLoss')
    ),
    centred=lambda: tiny_retod_cfg(targets='centring'),
    plain=lambda: tiny_retod_cfg(
        *TASKS[:2], detector=tiny_plain_detector_cfg(1)
    ),
    detector=tiny_fgl_cfg,
)


def fix_proposals(model, proposals):
    """Let the RoI head see the proposals of the first run.

    Those of a bf16 RPN differ by a hair, so other RoIs would be sampled.
    """
    loss = model.roi_head.loss

    def with_fixed(feats, found, samples):
        if not proposals:
            proposals.append(copy.deepcopy(found))
        return loss(feats, copy.deepcopy(proposals[0]), samples)

    model.roi_head.loss = with_fixed


def losses_of(case, amp, proposals):
    """Named losses, their total, and the gradients."""
    detector = case == 'detector'
    scope = 'mmdet' if detector else 'mmpretrain'
    batch = detection_batch() if detector else region_batch(num_objects=3)
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(0)
        model = MODELS.build(CASES[case]()).train()
        fix_proposals(model, proposals)
        model.teacher_is_driven = True
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.manual_seed(1)
        data = model.data_preprocessor(batch, True)
        if amp:
            wrapper = CPUAmpOptimWrapper(optimizer=optimizer)
            with wrapper.optim_context(model):
                losses = model(**data, mode='loss')
        else:
            losses = model(**data, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
    parts = {
        name: sum(value) if isinstance(value, list) else value
        for name, value in losses.items()
        if 'loss' in name
    }
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return parts, total, grads


@pytest.mark.skipif(torch.cuda.is_available(), reason='CPU autocast')
@pytest.mark.parametrize('case', CASES)
def test_losses_are_fp32_and_close_to_an_fp32_run(case):
    proposals = []
    plain, total, _ = losses_of(case, False, proposals)
    mixed, mixed_total, grads = losses_of(case, True, proposals)
    assert mixed_total.dtype == torch.float32
    assert abs(mixed_total - total) < 0.05 * abs(total)
    for name, value in mixed.items():
        assert value.dtype == torch.float32, name
        close = 0.05 * abs(plain[name]) + 0.02
        assert abs(value - plain[name]) < close, name
    assert len(grads) > 50
    for grad in grads:
        assert grad.dtype == torch.float32 and torch.isfinite(grad).all()
