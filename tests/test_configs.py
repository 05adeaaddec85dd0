"""Every config builds, trains a step and predicts, at tiny size."""

import ast
import copy
import functools
import json
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
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
from mmfgl.engine.runner import leaf_datasets
from mmfgl.testing import tiny_coco

ROOT = Path(__file__).resolve().parents[1] / 'configs'
PATHS = sorted(p for p in ROOT.rglob('*.py') if '_base_' not in p.parts)
BASES = sorted((ROOT / '_base_').rglob('*.py'))
PRETRAINING = [p for p in PATHS if p.parent.name == 'retod']
DETECTORS = [p for p in PATHS if p.parent.name != 'retod']
CHAINED = [p for p in DETECTORS if '-retod' in p.stem]
SIDE = 64  # pixels of views and images


def parametrize(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda p: p.stem)


def read(path):
    cfg = Config.fromfile(path)
    drop_downloads(cfg.model)
    return cfg


def drop_downloads(node):
    """Remove the ``init_cfg`` that would read a checkpoint, in place."""
    if isinstance(node, dict):
        if (node.get('init_cfg') or {}).get('type') == 'Pretrained':
            node['init_cfg'] = None
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            drop_downloads(child)


def scope_of(cfg):
    return DefaultScope.overwrite_default_scope(cfg.default_scope)


@functools.cache
def shapes(path):
    """State dict of a config's model, with shapes for tensors."""
    cfg = read(path)
    with scope_of(cfg):
        model = MODELS.build(cfg.model)
    return {
        key: torch.empty(value.shape, device='meta')
        for key, value in model.state_dict().items()
    }


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny_coco(tmp_path_factory.mktemp('configs') / 'data')


def steps_of(pipeline):
    """Every transform of a pipeline, those inside others included."""
    for step in pipeline:
        if isinstance(step, dict):
            yield step
            step = step.get('transforms', ())
        if isinstance(step, list | tuple):
            yield from steps_of(step)


def shrink(pipeline):
    """Make images and views tiny, in place."""
    steps = list(steps_of(pipeline))
    resizes = [s for s in steps if s['type'].endswith('Resize')]
    longest = max((max(s['scale']) for s in resizes), default=1)
    for step in resizes:
        step['scale'] = tuple(
            round(SIDE * side / longest) for side in step['scale']
        )
    for step in steps:
        if step['type'] == 'mmfgl.TwoRegionViews':
            step['view_size'] = SIDE


def use(dataset, data, split):
    """Point a dataset config at the tiny set, renaming its classes."""
    dataset.data_root = str(data)
    if dataset.type == 'mmfgl.UnlabelledImages':
        dataset.data_prefix.img_path = 'unlabelled/'
        return
    dataset.data_prefix.img = f'{split}/'
    dataset.ann_file = f'annotations/{split}.json'
    content = json.loads((data / dataset.ann_file).read_text())
    classes = classes_of(dataset)
    content['categories'] = [
        dict(id=i, name=name) for i, name in enumerate(classes)
    ]
    for annotation in content['annotations']:
        annotation['category_id'] %= len(classes)
    dataset.ann_file = f'annotations/{split}_{len(classes)}.json'
    (data / dataset.ann_file).write_text(json.dumps(content))


def classes_of(dataset):
    from mmdet.datasets import CocoDataset

    return CocoDataset._load_metainfo(dataset.get('metainfo'))['classes']


def batch_of(loader, data, split, pipeline=None):
    """A batch of two tiny images by the config's own data loader."""
    loader = copy.deepcopy(loader)
    for dataset in leaf_datasets(loader.dataset):
        use(dataset, data, split)
        if pipeline is not None:
            dataset.pipeline = copy.deepcopy(pipeline)
        shrink(dataset.pipeline)
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    return next(iter(Runner.build_dataloader(loader, seed=0)))


def build(cfg):
    """The config's model with few proposals, initialised as in a run."""
    model = cfg.model
    for stage in ('train_cfg.rpn_proposal', 'test_cfg.rpn'):
        part, _, name = stage.partition('.')
        if part in model:
            model[part][name].update(nms_pre=100, max_per_img=40)
    torch.manual_seed(0)
    model = MODELS.build(model)
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
    moved = 0
    for name, param in model.named_parameters():
        if param.requires_grad:
            assert param.grad is not None, name
            assert param.isfinite().all(), name
            moved += not torch.equal(param, before[name])
    assert moved > 50
    return wrapper


def check_predictions(results, num_classes):
    assert len(results) == 2
    for result in results:
        found = result.pred_instances
        assert found.scores.isfinite().all()
        assert found.bboxes.isfinite().all()
        assert ((found.labels >= 0) & (found.labels < num_classes)).all()


def check_schedules(cfg, wrapper):
    loop = cfg.train_cfg
    length = loop.get('max_iters') or loop.max_epochs
    assert cfg.param_scheduler[-1].end == length
    for scheduler in cfg.param_scheduler:
        PARAM_SCHEDULERS.build(
            scheduler, default_args=dict(optimizer=wrapper, epoch_length=10)
        )


@parametrize(PRETRAINING)
def test_pretraining(path, data):
    cfg = read(path)
    with scope_of(cfg):
        model = build(cfg)
        wrapper = train_step(cfg, model, data)
        model.update_teacher(0.99)
        check_schedules(cfg, wrapper)
        hooks = [HOOKS.build(hook) for hook in cfg.custom_hooks]
    assert 'TeacherHook' in {type(hook).__name__ for hook in hooks}


@parametrize(PRETRAINING)
def test_pretraining_pipeline(path, data):
    cfg = read(path)
    (dataset, *_) = leaf_datasets(cfg.train_dataloader.dataset)
    use(dataset, data, 'train')
    with scope_of(cfg):
        item = DATASETS.build(dataset)[0]
    (views,) = (
        s for s in dataset.pipeline if s['type'] == 'mmfgl.TwoRegionViews'
    )
    side, count = views['view_size'], views['num_regions']
    assert [tuple(v.shape) for v in item['inputs']] == [(3, side, side)] * 2
    for boxes in (item['data_samples'].boxes, item['data_samples'].jittered):
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
    with scope_of(cfg):
        model = build(cfg)
        check_schedules(cfg, train_step(cfg, model, data))
        for hook in cfg.get('custom_hooks', ()):
            HOOKS.build(hook)
        model.eval()
        with torch.no_grad():
            batch = batch_of(cfg.val_dataloader, data, 'val')
            check_predictions(model.val_step(batch), num_classes)
            if 'tta_model' in cfg:
                check_tta(cfg, model, data)


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
    assert hook.modules == cfg.fgl_shared_modules
    report = LoadReport(shapes(path), shapes(source), hook.modules)
    report.check(str(source))
    assert '100.0 %' in str(report)
    assert not any(row['unexpected'] for row in report.rows.values())
    # the checkpoint that a whole pretraining leaves
    pretraining = read(source)
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


@parametrize(PATHS)
def test_header_states_the_command(path):
    lines = path.read_text().splitlines()
    header = []
    for line in lines:
        if not line.startswith('#'):
            break
        header.append(line.lstrip('#').strip())
    text = '\n'.join(header).replace('\\\n', '')
    name = path.relative_to(ROOT.parent).as_posix()
    assert re.search(
        rf'(python tools/train\.py|bash tools/dist_train\.sh)\s+{name}', text
    ), text


@parametrize(PATHS)
def test_name_states_the_schedule(path):
    cfg = read(path)
    gpus, batch, length = re.search(
        r'_(\d+)xb(\d+)-(\w+)_', path.stem
    ).groups()
    assert cfg.train_dataloader.batch_size == int(batch)
    loop = cfg.train_cfg
    if length.endswith(('e', 'x')):
        epochs = {'1x': 12, '2x': 24}.get(length) or int(length[:-1])
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
    for path in paths:
        cfg = Config.fromfile(path)
        assert cfg.data_root == '/somewhere/aquarium/'
        assert cfg.train_dataloader.dataset.data_root == cfg.data_root
    monkeypatch.delenv('MMFGL_DATA_ROOT')
    assert Config.fromfile(path).data_root == 'data/aquarium/'
