"""Every config builds, trains a step and predicts, at tiny size."""

import ast
import copy
import functools
import json
import math
import re
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    HOOKS,
    MODELS,
    PARAM_SCHEDULERS,
    DefaultScope,
)
from mmengine.runner import Runner

from mmfgl.engine.hooks import LoadReport
from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import (
    classes_of,
    narrow_model,
    read_config,
    tiny_loader,
    use_tiny_coco,
)
from mmfgl.utils.launch import leaf_datasets

ROOT = Path(__file__).resolve().parents[1] / 'configs'
PATHS = sorted(p for p in ROOT.rglob('*.py') if '_base_' not in p.parts)
BASES = sorted((ROOT / '_base_').rglob('*.py'))
PRETRAINING = [p for p in PATHS if p.parent.name == 'retod']
DETECTORS = [p for p in PATHS if p.parent.name == 'fgl_faster_rcnn']
PEERS = [p for p in PATHS if p.parent.name == 'transfer']
# arms of a benchmark, which sets their data and their length
ARMS = [p for p in PATHS if p in PEERS or p.stem.endswith('_transfer')]
RUNS = [p for p in PATHS if p not in ARMS]
CHAINED = [p for p in DETECTORS if '-retod' in p.stem]
PLAIN = [p for p in DETECTORS if p.stem.startswith(('faster', 'mask'))]
EPOCHS = {'1x': 12, '2x': 24, '3x': 36}


def parametrize(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda p: p.stem)


@functools.cache
def _read(path):
    return read_config(path)


def read(path):
    return copy.deepcopy(_read(path))


def scope_of(cfg):
    return DefaultScope.overwrite_default_scope(cfg.default_scope)


def shapes(path):
    """State dict of a config's model, without memory behind the tensors."""
    cfg = read(path)
    return _shapes(cfg.default_scope, json.dumps(cfg.model))


@functools.cache
def _shapes(scope, model):
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'):
        return MODELS.build(ConfigDict(json.loads(model))).state_dict()


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny_coco(tmp_path_factory.mktemp('configs') / 'data')


PASSED = set()


def step_of(cfg):
    """All that a training step and a prediction of a config depend on.

    Children that change schedule or annotation file alone share it with their
    base, and need not be run again.
    """
    parts = [cfg.default_scope, cfg.model, cfg.get('custom_hooks')]
    parts += [cfg.get('tta_model'), cfg.get('tta_pipeline')]
    for name in ('train_dataloader', 'val_dataloader'):
        if name in cfg:
            leaf = next(leaf_datasets(cfg[name].dataset))
            parts.append([leaf.type, leaf.pipeline, leaf.get('metainfo')])
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    wrapper.optimizer.pop('lr')
    return json.dumps([*parts, wrapper])


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


def train_step(cfg, model, data):
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
    assert sum(moved) > 50
    return wrapper


def check_predictions(results, num_classes):
    assert len(results) == 2
    for result in results:
        found = result.pred_instances
        assert found.scores.isfinite().all()
        assert found.bboxes.isfinite().all()
        assert ((found.labels >= 0) & (found.labels < num_classes)).all()


def check_schedules(cfg):
    loop = cfg.train_cfg
    length = loop.get('max_iters') or loop.max_epochs
    if not cfg.param_scheduler:  # that hook sets the learning rates
        assert cfg.custom_hooks[0].type == 'mmfgl.BudgetHook'
        return
    assert cfg.param_scheduler[-1].end == length
    assert all(
        step < length for step in cfg.param_scheduler[-1].get('milestones', ())
    )
    param = torch.nn.Parameter(torch.zeros(1))
    wrapper = torch.optim.SGD([param], lr=1.0)
    for scheduler in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=wrapper, epoch_length=10)
        )


@parametrize(PRETRAINING)
def test_pretraining(path, data):
    cfg = read(path)
    if path in RUNS:
        check_schedules(cfg)
    assert shapes(path)  # the real model builds
    step = step_of(cfg)
    if step in PASSED:
        return
    with scope_of(cfg):
        model = build(cfg)
        train_step(cfg, model, data)
        model.update_teacher(0.99)
        hooks = [HOOKS.build(hook) for hook in cfg.custom_hooks]
    assert 'TeacherHook' in {type(hook).__name__ for hook in hooks}
    PASSED.add(step)


@parametrize(PEERS)
def test_peer(path, data):
    cfg = read(path)
    # for momenta that follow a schedule
    MessageHub.get_current_instance().update_info('max_iters', 10)
    with scope_of(cfg):
        train_step(cfg, build(cfg), data)
        for hook in cfg.custom_hooks:
            HOOKS.build(hook)


@parametrize(PRETRAINING)
def test_pretraining_pipeline(path, data):
    cfg = read(path)
    dataset = next(leaf_datasets(cfg.train_dataloader.dataset))
    use_tiny_coco(dataset, data, 'train')
    with scope_of(cfg):
        item = DATASETS.build(dataset)[0]
    (views,) = (
        s for s in dataset.pipeline if s['type'] == 'mmfgl.RegionViews'
    )
    side, count = views['view_size'], views['num_regions']
    assert [tuple(v.shape) for v in item['inputs']] == [(3, side, side)] * 2
    boxes = item['data_samples'].boxes
    assert boxes.shape == (2, count, 4)
    assert (boxes >= 0).all() and (boxes <= side).all()
    assert (boxes[..., 2:] > boxes[..., :2]).all()


@parametrize(DETECTORS)
def test_detector(path, data):
    cfg = read(path)
    num_classes = cfg.model.roi_head.bbox_head.num_classes
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        for dataset in leaf_datasets(loader.dataset):
            assert len(classes_of(dataset)) == num_classes
    check_schedules(cfg)
    assert shapes(path)  # the real model builds
    step = step_of(cfg)
    if step in PASSED:
        return
    with scope_of(cfg):
        model = build(cfg)
        train_step(cfg, model, data)
        for hook in cfg.get('custom_hooks', ()):
            HOOKS.build(hook)
        model.eval()
        with torch.no_grad():
            batch = batch_of(cfg.val_dataloader, data, 'val')
            results = model.val_step(batch)
            check_predictions(results, num_classes)
            if 'mask_head' in cfg.model.roi_head:
                check_masks(results)
            if 'tta_model' in cfg:
                check_tta(cfg, model, data)
    PASSED.add(step)


def check_masks(results):
    for result in results:
        found = result.pred_instances
        assert len(found) > 0
        assert found.masks.shape == (len(found), *result.ori_shape)
        assert found.masks.dtype == torch.bool


def check_tta(cfg, model, data):
    wrapper = MODELS.build(dict(**cfg.tta_model, module=model))
    batch = batch_of(cfg.test_dataloader, data, 'val', cfg.tta_pipeline)
    assert len(batch['inputs']) == views_of(cfg.tta_pipeline)
    results = wrapper.test_step(batch)
    check_predictions(results, cfg.model.roi_head.bbox_head.num_classes)


def views_of(pipeline):
    (step,) = (s for s in pipeline if s['type'] == 'TestTimeAug')
    return math.prod(len(choices) for choices in step['transforms'])


@parametrize([p for p in BASES if p.parent.name == 'tta'])
@torch.no_grad()
def test_tta_base(path, data):
    # the quickest detector
    cfg = read(next(p for p in DETECTORS if '_r18-half_' in p.stem))
    tta = Config.fromfile(path)
    cfg.update(tta_model=tta.tta_model, tta_pipeline=tta.tta_pipeline)
    with scope_of(cfg):
        check_tta(cfg, build(cfg).eval(), data)


@parametrize(CHAINED)
def test_shared_modules_are_pretrained(path):
    cfg = read(path)
    source = ROOT / 'retod' / f'{Path(cfg.load_from).parent.name}.py'
    assert source in PRETRAINING
    (hook,) = (
        h for h in cfg.custom_hooks if h.type == 'mmfgl.CheckpointChainHook'
    )
    shared = list(cfg.fgl_shared_modules)
    pretraining = read(source)
    if pretraining.model.get('rpn_head'):
        shared.append('rpn_head')
        shared += [f'roi_head.bbox_head.fc_{x}' for x in ('reg', 'quality')]
    if path in PLAIN:
        assert hook.modules == ['backbone', 'neck'] == shared[:2]
    else:
        assert hook.modules == shared
    report = LoadReport(shapes(path), shapes(source), hook.modules)
    report.check(str(source))
    assert '100.0 %' in str(report)
    assert not any(row['unexpected'] for row in report.rows.values())
    # the checkpoint that a whole pretraining leaves
    loop = pretraining.train_cfg
    expected = (
        f'iter_{loop.max_iters}.pth'
        if 'max_iters' in loop
        else f'epoch_{loop.max_epochs}.pth'
    )
    assert Path(cfg.load_from).name == expected
    # and the same pixels
    for key in ('mean', 'std', 'bgr_to_rgb'):
        theirs = pretraining.model.data_preprocessor[key]
        assert cfg.model.data_preprocessor[key] == theirs


@parametrize(PLAIN)
def test_baseline_differs_in_the_roi_head_alone(path):
    ours, theirs = read(path), read(path.with_name(f'fgl-{path.name}'))
    for key in theirs:
        if key not in ('model', 'custom_hooks') and key in ours:
            assert ours[key] == theirs[key], key
    added = set(ours) - set(theirs)
    assert added <= {'plain_roi_head'}
    for key in theirs.model:
        if key not in ('type', 'roi_head'):
            assert ours.model[key] == theirs.model[key], key
    mine = ours.model.roi_head
    assert mine.type == 'StandardRoIHead'
    for part in ('mask_roi_extractor', 'mask_head'):
        assert mine.get(part) == theirs.model.roi_head.get(part)


@torch.no_grad()
def test_mae_checkpoint_of_mmpretrain_fits():
    (path,) = (
        p
        for p in DETECTORS
        if p.stem.startswith('fgl') and '_vit-b16-mae_' in p.stem
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        base = Config.fromfile(
            Path(mmpretrain.__file__).parent
            / '.mim/configs/_base_/models/mae_vit-base-p16.py'
        )
        with torch.device('meta'):
            mae = MODELS.build(dict(base.model, _scope_='mmpretrain'))
    cfg = read(path)
    hook = HOOKS.build(cfg.custom_hooks[0])
    state = mae.state_dict()
    hook.revise(state)
    report = LoadReport(shapes(path), state, hook.modules)
    report.check('MAE')
    assert not any(row['unexpected'] for row in report.rows.values())
    assert not any(key.startswith('neck.') for key in state)


@pytest.mark.parametrize('fold', ['1', '4'])
def test_low_label_splits(fold, monkeypatch):
    paths = [p for p in DETECTORS if p.stem.endswith('pct')]
    assert len(paths) == 8
    monkeypatch.setenv('MMFGL_FOLD', fold)
    for path in paths:
        percent = re.search(r'-(\d+)pct$', path.stem).group(1)
        dataset = read_config(path).train_dataloader.dataset
        assert dataset.ann_file == (
            f'annotations/instances_train2017.{percent}@{fold}.json'
        )
        assert dataset.data_prefix.img == 'train2017/'


@parametrize(PATHS)
def test_header_states_the_command(path):
    lines = path.read_text().splitlines()
    header = []
    for line in lines:
        if not line.startswith('#'):
            break
        header.append(line.lstrip('#').strip())
    text = '\n'.join(header).replace('\\\n', '')
    if path in ARMS:
        if 'The same' not in text:
            assert 'python tools/benchmarks/transfer.py --arms' in text
        return
    name = path.relative_to(ROOT.parent).as_posix()
    assert re.search(
        r'(python tools/train\.py|bash tools/dist_(train|test)\.sh)'
        rf'\s+{name}',
        text,
    ), text


@parametrize(RUNS)
def test_name_states_the_schedule(path):
    cfg = read(path)
    gpus, batch, length = re.search(
        r'_(\d+)xb(\d+)-(\w+)_', path.stem
    ).groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    loop = cfg.train_cfg
    if length.endswith(('e', 'x')):
        epochs = EPOCHS.get(length) or int(length[:-1])
        assert loop.max_epochs == epochs
    else:
        iters = length.replace('k', '000')
        assert loop.max_iters == int(iters)
        assert cfg.default_hooks.checkpoint.by_epoch is False
    if 'auto_scale_lr' in cfg:
        assert cfg.auto_scale_lr.base_batch_size == int(gpus) * int(batch)


@parametrize(DETECTORS)
def test_evaluator_reads_the_annotations_of_the_loader(path):
    cfg = read(path)
    for split in ('val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        evaluator = cfg[f'{split}_evaluator']
        assert evaluator.ann_file == dataset.data_root + dataset.ann_file


def bases_of(path):
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and (
            ast.unparse(node.targets[0]) == '_base_'
        ):
            value = ast.literal_eval(node.value)
            for base in [value] if isinstance(value, str) else value:
                if '::' not in base:
                    yield (path.parent / base).resolve()


def test_every_base_is_used():
    used = {base for path in (*PATHS, *BASES) for base in bases_of(path)}
    assert used <= {*PATHS, *BASES}
    # test-time augmentations are for users to add to a config
    spare = {p for p in BASES if p.parent.name == 'tta'}
    assert set(BASES) - used <= spare


@pytest.mark.parametrize('folder', ['retod', 'fgl_faster_rcnn'])
def test_data_root_follows_the_environment(folder, monkeypatch):
    monkeypatch.setenv('MMFGL_DATA_ROOT', '/somewhere')
    paths = sorted((ROOT / folder).glob('*_aquarium.py'))
    assert paths
    for path in paths[::3]:
        cfg = read_config(path)
        assert cfg.data_root == '/somewhere/aquarium/'
        assert cfg.train_dataloader.dataset.data_root == cfg.data_root
    monkeypatch.delenv('MMFGL_DATA_ROOT')
    assert read_config(path).data_root == 'data/aquarium/'
