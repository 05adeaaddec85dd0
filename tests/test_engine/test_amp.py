"""One switch for mixed precision, losses in float32 whatever it says."""

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmfgl.engine.optim_wrapper import CPUAmpOptimWrapper
from mmfgl.registry import MODELS
from mmfgl.testing import (
    detection_batch,
    region_batch,
    tiny_fgl_cfg,
    tiny_retod_cfg,
)


def retod(*tasks, **changes):
    batch = region_batch(num_objects=3)
    return tiny_retod_cfg(*tasks, **changes), batch, 'mmpretrain'


CASES = dict(
    retod=lambda: retod('distill', 'mask', 'diversity'),
    balanced=lambda: retod(balancer=dict(type='mmfgl.TaskAdaptiveLoss')),
    centred=lambda: retod(targets='centring'),
    objectness=lambda: retod('objectness'),
    detector=lambda: (tiny_fgl_cfg(), detection_batch(), 'mmdet'),
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


def losses_of(cfg, batch, scope, amp, proposals):
    """Named losses, their total, and the model after the backward pass."""
    with DefaultScope.overwrite_default_scope(scope):
        torch.manual_seed(0)
        model = MODELS.build(ConfigDict(cfg)).train()
        if hasattr(model, 'rpn_head'):
            fix_proposals(model, proposals)
        model.teacher_is_driven = True
        wrapper = CPUAmpOptimWrapper(
            optimizer=torch.optim.SGD(
                [p for p in model.parameters() if p.requires_grad], lr=0.1
            )
        )
        torch.manual_seed(1)
        data = model.data_preprocessor(batch, True)
        if amp:
            with wrapper.optim_context(model):
                losses = model(**data, mode='loss')
        else:
            losses = model(**data, mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
    return losses, total, model


def tensors(losses):
    for name, value in losses.items():
        if 'loss' in name:
            parts = value if isinstance(value, list) else [value]
            yield name, sum(parts)


@pytest.mark.skipif(torch.cuda.is_available(), reason='CPU autocast')
@pytest.mark.parametrize('case', CASES)
def test_losses_are_fp32_and_close_to_an_fp32_run(case):
    seen = []
    plain, total, _ = losses_of(*CASES[case](), False, seen)
    mixed, mixed_total, model = losses_of(*CASES[case](), True, seen)
    reference = dict(tensors(plain))
    assert mixed_total.dtype == torch.float32
    for name, value in tensors(mixed):
        assert value.dtype == torch.float32, name
        assert torch.isfinite(value), name
        assert (
            abs(value - reference[name]) < 0.05 * abs(reference[name]) + 0.02
        ), name
    assert abs(mixed_total - total) < 0.05 * abs(total)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(grads) > 50
    assert all(g.dtype == torch.float32 for g in grads)
    assert all(torch.isfinite(g).all() for g in grads)


@pytest.mark.skipif(torch.cuda.is_available(), reason='CPU autocast')
def test_autocast_really_was_on():
    seen = []
    cfg, batch, scope = retod()
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg)
        model.teacher_is_driven = True
        model.backbone.register_forward_hook(
            lambda module, args, out: seen.append(out[0].dtype)
        )
        wrapper = CPUAmpOptimWrapper(
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1)
        )
        model.train_step(batch, wrapper)
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize('amp', [True, False])
def test_switch_in_the_config(amp, monkeypatch, tmp_path):
    import tools.train as tool

    path = tmp_path / 'config.py'
    path.write_text(
        f"amp = {amp}\nmodel = dict(type='X')\n"
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1))\n"
    )
    built = []

    class Stop(Exception):
        pass

    def build(cfg):
        built.append(cfg)
        raise Stop

    monkeypatch.setattr(tool, 'build_runner', build)
    monkeypatch.setattr('sys.argv', ['train.py', str(path)])
    with pytest.raises(Stop):
        tool.main()
    (cfg,) = built
    assert isinstance(cfg, Config)
    assert ('Amp' in cfg.optim_wrapper.type) == amp
