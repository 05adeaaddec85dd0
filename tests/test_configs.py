"""Every config builds, trains a step and predicts, at tiny size."""

import ast
import copy
import functools
import math
import re
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner

from mmfgl.engine.hooks import LoadReport
from mmfgl.engine.hooks.checkpoint_chain_hook import as_loaded
from mmfgl.engine.hooks.region_probe_hook import region_top1
from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import (
    SIDE,
    classes_of,
    narrow_model,
    parts_of,
    read_config,
    tiny_loader,
)
from mmfgl.utils.launch import leaf_datasets

ROOT = Path(__file__).resolve().parents[1] / 'configs'
FILES = sorted(ROOT.rglob('*.py'))
BASES = [p for p in FILES if '_base_' in p.parts]
PATHS = [p for p in FILES if p not in BASES]
DETECTORS = [p for p in PATHS if p.parent.name == 'fgl_faster_rcnn']
PLAIN = [p for p in DETECTORS if 'fgl-' not in p.stem]
# arms of a benchmark, which sets their data and their length
ARMS = [p for p in PATHS if p.parent.name == 'transfer']
RUNS = [p for p in PATHS if p not in ARMS]
# start from a run of another config
CHAINED = [p for p in PATHS if "'work_dirs/" in p.read_text()]
EPOCHS = {'1x': 12, '2x': 24, '3x': 36}
# of a plain detector with a ViT: its pyramid, and its depths of layers
NEEDED_BY_VIT = {'mmfgl.SimpleFeaturePyramid', 'mmfgl.FGLFasterRCNN'}


def parametrize(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda p: p.stem)


@functools.cache
def read_once(path):
    return read_config(path)


def read(path):
    return copy.deepcopy(read_once(path))


def scope_of(cfg):
    return DefaultScope.overwrite_default_scope(cfg.default_scope)


def on_meta(cfg):
    """A config's model, without memory behind the tensors."""
    with scope_of(cfg), torch.device('meta'):
        return MODELS.build(copy.deepcopy(cfg.model))


def types_of(cfg):
    return {hook.type.removeprefix('mmfgl.') for hook in cfg.custom_hooks}


def length_of(cfg):
    return cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs


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
    on_meta(cfg)  # the real model builds
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
    num_views = 2 if set(model.tasks) & {'distill', 'mask'} else 1
    shapes = [tuple(view.shape[1:]) for view in batch['inputs']]
    assert shapes == [(3, SIDE, SIDE)] * num_views
    assert ('TeacherHook' in types_of(cfg)) == has_teacher
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
    tta = Config.fromfile(path)
    cfg.update(tta_model=tta.tta_model, tta_pipeline=tta.tta_pipeline)
    with scope_of(cfg):
        check_tta(cfg, build(cfg).eval(), data)


@parametrize(PATHS)
def test_settings(path):
    cfg = read(path)
    assert {'NonFiniteGuardHook', 'ExactResumeHook'} <= types_of(cfg)
    if cfg.model.type == 'mmfgl.ReToD':
        assert 'RegionProbeHook' in types_of(cfg)
    assert 'UnreadableImageHook' in types_of(cfg)
    saving = cfg.default_hooks.checkpoint
    assert saving.type == 'mmfgl.AtomicCheckpointHook'
    assert saving.get('by_epoch', True) == ('max_epochs' in cfg.train_cfg)
    assert 3 * saving.interval <= length_of(cfg)
    assert saving.interval_minutes == 30
    assert cfg.env_cfg.dist_cfg.timeout == 1800
    check_name(path, cfg)
    check_schedule(cfg)
    if path in DETECTORS:
        check_data(path, cfg)


def check_name(path, cfg):
    found = re.search(r'_(\d+)xb(\d+)(?:-(\w+?))?(?:_|$)', path.stem)
    gpus, batch, length = found.groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    if path in ARMS:
        assert length is None
    elif length.endswith(('e', 'x')):
        epochs = EPOCHS.get(length) or int(length[:-1])
        assert cfg.train_cfg.max_epochs == epochs
    else:
        iters = int(length.replace('k', '000'))
        assert cfg.train_cfg.max_iters == iters
    if 'auto_scale_lr' in cfg:
        assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)


def check_schedule(cfg):
    if not cfg.get('param_scheduler'):  # that hook sets the learning rates
        assert 'BudgetHook' in types_of(cfg)
        return
    last = cfg.param_scheduler[-1]
    assert last.end == length_of(cfg)
    assert all(step < last.end for step in last.get('milestones', ()))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    for scheduler in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=optimizer, epoch_length=10)
        )


def check_data(path, cfg):
    model = cfg.model.get('detector', cfg.model)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for dataset in leaf_datasets(loader.dataset):
            names = classes_of(dataset)
            assert len(names) == model.roi_head.bbox_head.num_classes
    for split in ('val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        evaluator = cfg[f'{split}_evaluator']
        assert evaluator.ann_file == dataset.data_root + dataset.ann_file
    if path.stem.endswith('pct'):
        percent = re.search(r'-(\d+)pct$', path.stem).group(1)
        labelled = next(leaf_datasets(cfg.train_dataloader.dataset))
        # as MMDetection names fold and percentage
        assert labelled.ann_file == (
            f'annotations/instances_train2017.1@{percent}.json'
        )


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
    model = on_meta(cfg)
    state = as_loaded(model, revised(on_meta(before).state_dict(), hook))
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


@parametrize(PLAIN)
def test_baseline_is_plain(path):
    cfg = read(path)
    model = cfg.model.get('detector', cfg.model)
    own = {p['type'] for p in parts_of(model) if 'mmfgl.' in p['type']}
    assert own == (NEEDED_BY_VIT if '_vit-' in path.stem else set())
    assert not any('fgl' in base.name for base in all_bases_of(path))
    assert model.roi_head.type == 'StandardRoIHead'
    beside = path.with_name(f'fgl-{path.name}')
    if not beside.is_file():
        return
    theirs = read(beside)
    for key in set(cfg) | set(theirs):
        # variables that a base gives the FGL configs
        if key not in ('model', 'custom_hooks') and key in cfg:
            assert cfg[key] == theirs[key], key
    for key in set(model) - {'type', 'roi_head'}:
        assert model[key] == theirs.model[key], key
    for part in ('mask_roi_extractor', 'mask_head'):
        assert model.roi_head.get(part) == theirs.model.roi_head.get(part)


def test_mae_checkpoint_of_mmpretrain_fits():
    path = next(p for p in DETECTORS if '_vit-b16-mae_' in p.stem)
    base = Config.fromfile(
        Path(mmpretrain.__file__).parent
        / '.mim/configs/_base_/models/mae_vit-base-p16.py'
    )
    base.model._scope_ = base.default_scope = 'mmpretrain'
    cfg = read(path)
    (hook,) = (h for h in cfg.custom_hooks if 'Chain' in h['type'])
    state = revised(on_meta(base).state_dict(), hook)
    report = LoadReport(on_meta(cfg).state_dict(), state, hook.modules)
    report.check('MAE', state)
    assert not any(row['unexpected'] for row in report.rows.values())
    assert not any(key.startswith('neck.') for key in state)


def bases_of(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and (
            ast.unparse(node.targets[0]) == '_base_'
        ):
            value = ast.literal_eval(node.value)
            for base in [value] if isinstance(value, str) else value:
                # a parent's file stands for itself
                yield Path(base) if '::' in base else (path.parent / base)


def all_bases_of(path):
    for base in bases_of(path):
        yield base
        if base.is_file():
            yield from all_bases_of(base)


def depth(path):
    if not path.is_file():
        return 1
    return 1 + max((depth(base) for base in bases_of(path)), default=0)


@parametrize(FILES)
def test_file_holds_only_its_differences(path):
    assert depth(path) <= 4
    for node in ast.walk(ast.parse(path.read_text())):
        # named parts, no positions in a list of a base
        if isinstance(node, ast.Subscript):
            index = node.slice
            assert isinstance(index, ast.Constant), ast.unparse(node)
            assert isinstance(index.value, str), ast.unparse(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not re.search(r'\bpython\b|tools/|^--', node.value)


@parametrize(PATHS)
def test_header_states_the_command(path):
    header = re.match(r'(#.*\n)+', path.read_text()).group()
    text = re.sub(r'\\\n#\s*', '', header)
    if path in ARMS:
        arm = path.stem.partition('_')[0]
        assert re.search(rf'transfer\.py --arms {arm}\s', text), text
        return
    name = path.relative_to(ROOT.parent).as_posix()
    command = r'(python tools/train\.py|bash tools/dist_(train|test)\.sh)'
    assert re.search(rf'{command}\s+{re.escape(name)}', text), text


def test_every_base_is_used():
    used = {base.resolve() for path in FILES for base in bases_of(path)}
    # test-time augmentations are for users to add to a config
    spare = {p for p in BASES if p.parent.name == 'tta'}
    assert set(BASES) - used <= spare


def test_data_root_follows_the_environment(monkeypatch):
    paths = [p for p in RUNS if p.stem.endswith('_aquarium')]
    monkeypatch.setenv('MMFGL_DATA_ROOT', '/somewhere')
    for path in paths:
        cfg = read_config(path)
        assert cfg.data_root == '/somewhere/aquarium/'
        assert cfg.train_dataloader.dataset.data_root == cfg.data_root
    monkeypatch.delenv('MMFGL_DATA_ROOT')
    assert read_config(path).data_root == 'data/aquarium/'
