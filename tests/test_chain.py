"""From unlabelled images to detections, with real Runners and files."""

import copy
import itertools
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import narrow_model, read_config, tiny_loader

COUNTER = itertools.count()
CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
TASKS = ('objectness', 'dense', 'distill', 'mask', 'diversity')
SHARED = [
    'backbone',
    'neck',
    'rpn_head',
    'roi_head.bbox_roi_extractor',
    'roi_head.tokenizer',
    'roi_head.transformer',
    'roi_head.bbox_head.fc_reg',
    'roi_head.bbox_head.fc_quality',
]


class Snapshot(Hook):
    """Keeps the model's state as training starts."""

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())


@pytest.fixture(scope='module', autouse=True)
def scope(unformatted_configs):
    # Runners leave their default scope behind
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Digit scenes, one of the unlabelled images corrupt."""
    root = tiny_coco(tmp_path_factory.mktemp('chain') / 'data')
    broken = sorted((root / 'unlabelled').iterdir())[1]
    broken.write_bytes(b'no image')
    return root


def tiny(cfg, data, work_dir, iters, **changes):
    """A config of the project, tiny, that trains for some iterations."""
    narrow_model(cfg.model)
    for split in ('train', 'val', 'test'):
        if f'{split}_dataloader' in cfg:
            loader = cfg[f'{split}_dataloader']
            tiny_loader(loader, data, split.replace('test', 'val'))
        if f'{split}_evaluator' in cfg:
            ann_file = loader.dataset.ann_file
            cfg[f'{split}_evaluator'].ann_file = str(data / ann_file)
    cfg.train_cfg = dict(
        type='IterBasedTrainLoop', max_iters=iters, val_interval=iters
    )
    cfg.default_hooks.checkpoint.update(interval=iters, by_epoch=False)
    cfg.param_scheduler = cfg.sync_bn = None
    cfg.randomness = dict(seed=0)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f'chain_{next(COUNTER)}'
    cfg.update(changes)
    return cfg


def pretrain_cfg(data, work_dir, iters=3, **changes):
    cfg = read_config(CONFIGS / 'retod/retod_r50-fpn_8xb64-100e_coco.py')
    add_ema_teacher(cfg)
    cfg = tiny(cfg, data, work_dir, iters, **changes)
    tiny_loader(hook_of(cfg, 'RegionProbeHook').dataloader, data, 'val')
    return cfg


def add_ema_teacher(cfg):
    """Every task there is, in place: those of two views besides."""
    parts = Config.fromfile(CONFIGS / '_base_/models/retod_tasks.py')
    cfg.model.tasks += [parts.distill, parts.mask, parts.diversity]
    cfg.model.update(
        head=parts.prototype_head, target_generator=parts.ema_teacher
    )
    pipeline = [cfg.load_image, cfg.two_views, cfg.pack_views]
    cfg.train_dataloader.dataset.pipeline = pipeline
    hook = dict(type='mmfgl.TeacherHook', momentum=0.996, export='teacher')
    hook_of(cfg, 'RegionProbeHook').branch = 'teacher'
    cfg.custom_hooks = [*cfg.custom_hooks, hook]


def detector_cfg(data, work_dir, iters=2, **changes):
    name = 'fgl_faster_rcnn/fgl-faster-rcnn_r50-retod_fpn_8xb2-12k_coco.py'
    cfg = tiny(read_config(CONFIGS / name), data, work_dir, iters, **changes)
    cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=10)
    return cfg


def hook_of(cfg, name):
    (hook,) = (h for h in cfg.custom_hooks if h.type == f'mmfgl.{name}')
    return hook


def train(cfg, *hooks):
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def load(path):
    return torch.load(path, weights_only=False)


@pytest.fixture(scope='module')
def pretrained(data, tmp_path_factory):
    """Runner and checkpoint of a pretraining of three iterations."""
    work_dir = tmp_path_factory.mktemp('pretrain')
    runner = train(pretrain_cfg(data, work_dir))
    return runner, work_dir / 'iter_3.pth'


@pytest.fixture(scope='module')
def chained(data, pretrained, tmp_path_factory):
    """Runner, start and work dir of a detector trained from it."""
    work_dir, snapshot = tmp_path_factory.mktemp('detector'), Snapshot()
    cfg = detector_cfg(data, work_dir, load_from=str(pretrained[1]))
    cfg.dump(work_dir / 'detector.py')
    return train(cfg, snapshot), snapshot.state, work_dir


def test_pretraining(pretrained):
    runner, path = pretrained
    assert runner.iter == 3 and path.is_file()
    text = log_of(runner)
    assert '1 unreadable images were skipped and replaced' in text
    for name in [f'loss_{task}' for task in TASKS]:
        values = runner.message_hub.get_scalar(f'train/{name}').data[0]
        assert len(values) == 3 and all(abs(v) < 100 for v in values), name


def test_detector_starts_from_the_teacher(pretrained, chained):
    pretrainer, path = pretrained
    runner, start, _ = chained
    text = log_of(runner)
    assert f'Load report of {path}' in text
    assert '100.0 % of the declared modules loaded' in text
    teacher = pretrainer.model.target_generator.state_dict()
    student = pretrainer.model.state_dict()
    keys = [key for key in start if key.startswith(tuple(SHARED))]
    assert len(keys) > 100
    assert all(torch.equal(start[key], teacher[key]) for key in keys)
    assert any(not torch.equal(start[key], student[key]) for key in keys)


def test_detector_trains_and_validates(chained):
    runner, start, _ = chained
    assert runner.iter == 2
    state = runner.model.state_dict()
    for name in (*SHARED, 'roi_head.bbox_head.fc_cls'):
        keys = [key for key in state if key.startswith(name)]
        assert any(not torch.equal(state[k], start[k]) for k in keys), name
    scalars = runner.message_hub.log_scalars
    for name in ('mAP', 'mAP_50', 'mAP_75'):
        value = scalars[f'val/coco/bbox_{name}'].current()
        assert 0 <= value <= 1, name


def test_inferencer(chained, data):
    _, _, work_dir = chained
    path = next((data / 'val').iterdir())
    inferencer = DetInferencer(
        str(work_dir / 'detector.py'),
        str(work_dir / 'iter_2.pth'),
        device='cpu',
        show_progress=False,
    )
    (result,) = inferencer(str(path))['predictions']
    assert 0 < len(result['scores']) <= 10
    assert len(result['bboxes']) == len(result['labels'])
    assert set(result['labels']) <= set(range(80))
    height, width = cv2.imread(str(path)).shape[:2]
    for x1, y1, x2, y2 in result['bboxes']:
        assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height


def test_wrong_start(pretrained, data, tmp_path):
    """The hook's messages have tests of their own; this run must stop."""
    state = load(pretrained[1])['state_dict']
    path = str(tmp_path / 'wrong.pth')
    torch.save({f'encoder_q.{k}': v for k, v in state.items()}, path)
    with pytest.raises(RuntimeError) as error:
        train(detector_cfg(data, tmp_path, load_from=path))
    for message in (
        'backbone: missing: backbone.conv1.weight',
        'roi_head.transformer: missing: roi_head.transformer.encoder',
        'The checkpoint holds: encoder_q',
    ):
        assert message in str(error.value)
    assert not list(tmp_path.glob('iter_*.pth'))
