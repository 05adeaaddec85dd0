"""Config files: their names, bases, headers and settings."""

import ast
import re
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from mmfgl.testing.configs import classes_of, parts_of, read_config
from mmfgl.utils.checked_runner import leaf_datasets
from tests.project_configs import (
    ARMS,
    BASES,
    DETECTORS,
    FILES,
    PATHS,
    PLAIN,
    ROOT,
    RUNS,
    length_of,
    parametrize,
    read,
    types_of,
)

EPOCHS = {'1x': 12, '2x': 24, '3x': 36}
# of a plain detector with a ViT: its pyramid, and its depths of layers
NEEDED_BY_VIT = {'mmfgl.SimpleFeaturePyramid', 'mmfgl.FGLFasterRCNN'}


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


def test_source_recipe():
    (base,) = (path for path in BASES if path.stem == 'source')
    settings = Config.fromfile(base).source_roi_head
    assert 'num_classes' not in settings.bbox_head  # the data set's
    steps = [read(path) for path in PATHS if '_source-' in path.stem]
    assert len(steps) == 2
    for cfg in steps:
        assert cfg.model.roi_head.bbox_head.voting_iou is None
    (cfg,) = (read(path) for path in PATHS if '_source-c_' in path.stem)
    assert cfg.tta_model.voting_iou is None
    (step,) = (s for s in cfg.tta_pipeline if s.type == 'TestTimeAug')
    scales, flips = step.transforms[:2]
    assert len(scales) == 3
    assert [flip.prob for flip in flips] == [0]


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
