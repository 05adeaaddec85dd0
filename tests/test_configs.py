"""Every config builds, trains a step and predicts, at tiny size."""

import copy
import math
import re
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner

from mmfgl.engine.hooks import LoadReport
from mmfgl.engine.hooks.checkpoint_chain_hook import as_loaded
from mmfgl.engine.hooks.region_probe_hook import region_top1
from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import SIDE, narrow_model, tiny_loader
from mmfgl.utils.tta_views import set_tta
from tests.project_configs import (
    BASES,
    DETECTORS,
    PATHS,
    build_on_meta,
    length_of,
    on_meta,
    parametrize,
    read,
    scope_of,
    types_of,
)

# start from a run of another config
CHAINED = [p for p in PATHS if "'work_dirs/" in p.read_text()]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny_coco(tmp_path_factory.mktemp('configs') / 'data')


def batch_of(loader, data, split, pipeline=None):
    """A batch of two tiny images by the config's own data loader."""
    loader = copy.deepcopy(loader)
    tiny_loader(loader, data, split, copy.deepcopy(pipeline))
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def build(cfg):
    """The config's model, narrow, initialised as in a run."""
    narrow_model(cfg.model)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@parametrize(PATHS)
def test_trains_and_predicts(path, data):
    cfg = read(path)
    on_meta(path)  # the real model builds
    # for momenta that follow a schedule
    MessageHub.get_current_instance().update_info('max_iters', 10)
    with scope_of(cfg):
        for hook in cfg.custom_hooks:
            HOOKS.build(hook)
        model = build(cfg)
        check_train_step(cfg, model, data)
        model.eval()
        if path in DETECTORS:
            check_predictions(cfg, model, data)
        elif cfg.model.type == 'mmfgl.ReToD':
            check_pretraining(cfg, model, data)


def check_train_step(cfg, model, data):
    """One step; every trainable parameter must have got a gradient."""
    if hasattr(model, 'teacher_is_driven'):
        model.teacher_is_driven = True
    model.train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    wrapper.zero_grad = lambda: None  # to look at the gradients afterwards
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    batch = batch_of(cfg.train_dataloader, data, 'train')
    log = model.train_step(batch, wrapper)
    assert all(value.isfinite().all() for value in log.values()), log
    moved = []
    for name, param in model.named_parameters():
        if param.requires_grad:
            assert param.grad is not None, name
            assert param.isfinite().all(), name
            moved.append(not torch.equal(param, before[name]))
    # a residual branch starts at zero: its inner layers move a step later
    # with little decay, AdamW leaves more of a small backbone where it is
    alone = cfg.model.type == 'mmfgl.BackboneDistill'
    assert sum(moved) > (30 if alone else 50)


def check_pretraining(cfg, model, data):
    batch = batch_of(cfg.train_dataloader, data, 'train')
    has_teacher = cfg.model.get('target_generator') is not None
    # objectness alone needs one
    prototypes = bool(set(model.tasks) & {'distill', 'mask'})
    num_views = 2 if prototypes else 1
    shapes = [tuple(view.shape[1:]) for view in batch['inputs']]
    assert shapes == [(3, SIDE, SIDE)] * num_views
    assert ('TeacherHook' in types_of(cfg)) == has_teacher
    assert ('CollapseMonitorHook' in types_of(cfg)) == prototypes
    if has_teacher:
        model.update_teacher(0.99)
    for probe in cfg.custom_hooks:
        if probe.type == 'mmfgl.RegionProbeHook':
            views = batch_of(probe.dataloader, data, 'val')
            branch = probe.get('branch', 'student')
            assert branch == ('teacher' if has_teacher else 'student')
            share, regions = region_top1(model, [views], branch)
            assert 0 <= share <= 1 and regions == 2 * 16


@torch.no_grad()
def check_predictions(cfg, model, data):
    """Predictions of plain testing, and of test-time augmentation."""
    roi_head = cfg.model.get('detector', cfg.model).roi_head
    num_classes = roi_head.bbox_head.num_classes
    results = model.val_step(batch_of(cfg.val_dataloader, data, 'val'))
    check_results(results, num_classes)
    for result in results if 'mask_head' in roi_head else ():
        found = result.pred_instances
        assert len(found) > 0
        assert found.masks.shape == (len(found), *result.ori_shape)
        assert found.masks.dtype == torch.bool
    if 'tta_model' in cfg:
        check_tta(cfg, model, data)


def check_results(results, num_classes):
    assert len(results) == 2
    for result in results:
        found = result.pred_instances
        assert found.scores.isfinite().all()
        assert found.bboxes.isfinite().all()
        assert ((found.labels >= 0) & (found.labels < num_classes)).all()


def check_tta(cfg, model, data):
    wrapper = MODELS.build(dict(**cfg.tta_model, module=model))
    (step,) = (s for s in cfg.tta_pipeline if s['type'] == 'TestTimeAug')
    num_views = math.prod(len(choices) for choices in step['transforms'])
    batch = batch_of(cfg.test_dataloader, data, 'val', cfg.tta_pipeline)
    assert len(batch['inputs']) == num_views
    results = wrapper.test_step(batch)
    check_results(results, cfg.model.roi_head.bbox_head.num_classes)


@parametrize([p for p in BASES if p.parent.name == 'tta'])
@torch.no_grad()
def test_tta_base(path, data):
    # the quickest detector
    quick = next(p for p in DETECTORS if 'fgl-faster-rcnn_r18-half_' in p.stem)
    cfg = read(quick)
    with scope_of(cfg):
        model = build(cfg).eval()
        set_tta(cfg, path.stem)
        detector = cfg.model.pop('module')
        cfg.tta_model, cfg.model = cfg.model, detector
        cfg.tta_pipeline = cfg.test_dataloader.dataset.pipeline
        check_tta(cfg, model, data)


def revised(state, hook):
    for pattern, new in hook.get('revise_keys', ()):
        state = {re.sub(pattern, new, key): v for key, v in state.items()}
    return state


@parametrize(CHAINED)
def test_loads_all_that_was_pretrained(path):
    cfg = read(path)
    name = Path(cfg.load_from).parent.name
    (source,) = (p for p in PATHS if p.stem == name)
    before = read(source)
    (hook,) = (
        h for h in cfg.custom_hooks if h.type == 'mmfgl.CheckpointChainHook'
    )
    model = on_meta(path)
    state = as_loaded(model, revised(on_meta(source).state_dict(), hook))
    own = model.state_dict()
    report = LoadReport(own, state, hook.modules)
    report.check(str(source), state)
    assert '100.0 %' in str(report)
    assert not any(row['unexpected'] for row in report.rows.values())
    # nothing else would load without a word
    assert not report.others
    # the checkpoint that a whole pretraining leaves
    unit = 'iter' if 'max_iters' in before.train_cfg else 'epoch'
    assert Path(cfg.load_from).name == f'{unit}_{length_of(before)}.pth'
    # and the same pixels
    ours, theirs = (
        c.model.get('detector', c.model).data_preprocessor
        for c in (cfg, before)
    )
    for key in ('mean', 'std', 'bgr_to_rgb'):
        assert ours[key] == theirs[key]


def test_mae_checkpoint_of_mmpretrain_fits():
    path = next(p for p in DETECTORS if '_vit-b16-mae_' in p.stem)
    base = Config.fromfile(
        Path(mmpretrain.__file__).parent
        / '.mim/configs/_base_/models/mae_vit-base-p16.py'
    )
    base.model._scope_ = base.default_scope = 'mmpretrain'
    cfg = read(path)
    (hook,) = (h for h in cfg.custom_hooks if 'Chain' in h['type'])
    state = revised(build_on_meta(base).state_dict(), hook)
    own = on_meta(path).state_dict()
    report = LoadReport(own, state, hook.modules)
    report.check('MAE', state)
    assert not any(row['unexpected'] for row in report.rows.values())
    # MAE calls its decoder a neck: nothing of it loads into the pyramid
    assert not any(key in own for key in state if key.startswith('neck.'))
