"""Tiny runs, deterministic on a CPU."""

import copy
import itertools

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmfgl.testing import tiny_coco
from tools.benchmarks.faults_runs import detection, pretraining

COUNTER = itertools.count()


@pytest.fixture(autouse=True)
def own_scope(unformatted_configs):
    # a Runner leaves its default scope behind
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """Digit scenes: 4 train, 2 val and 4 unlabelled images."""
    return tiny_coco(tmp_path_factory.mktemp('engine') / 'data')


def _state_of(runner):
    state = dict(runner.model.state_dict())
    for index, part in runner.optim_wrapper.state_dict()['state'].items():
        for name, value in part.items():
            if value is not None:  # a missing momentum, in PyTorch 2.1
                state[f'optimizer.{index}.{name}'] = value
    return copy.deepcopy(state)


@pytest.fixture
def state_of():
    """Weights, buffers (those of a teacher too) and optimizer of a Runner."""
    return _state_of


@pytest.fixture
def different():
    """Names of what differs in two Runners, or in two of these states."""

    def compare(*pair):
        one, other = (
            _state_of(x) if isinstance(x, Runner) else x for x in pair
        )
        changed = {k for k in one if k in other and (one[k] != other[k]).any()}
        return changed | (one.keys() ^ other.keys())

    return compare


@pytest.fixture
def toy_runner(tmp_path):
    """Build the Runner of a model and a data set that are objects."""

    def make(model, dataset, iters, hook, lr=0.0, folder='work', **changes):
        saving = dict(type='CheckpointHook', by_epoch=False, interval=10)
        sampler = dict(type='InfiniteSampler', shuffle=False)
        loader = dict(batch_size=1, dataset=dataset, sampler=sampler)
        settings = dict(
            model=model,
            work_dir=str(tmp_path / folder),
            train_dataloader=loader,
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr)),
            custom_hooks=[hook],
            default_hooks=dict(checkpoint=saving),
            experiment_name=f'toy_{next(COUNTER)}',
            log_level='WARNING',
        )
        return Runner(**(settings | changes))

    return make


@pytest.fixture
def make_runner(tmp_path):
    """Build the Runner of the model and the data loader of a config."""

    def make(
        source,
        iters=4,
        hooks=(),
        checkpoint=None,
        workers=0,
        work_dir='work',
        **changes,
    ):
        saving = dict(type='mmfgl.AtomicCheckpointHook', by_epoch=False)
        saving |= checkpoint or dict(interval=10**6, save_last=False)
        loader = source.train_dataloader
        loader.update(num_workers=workers, persistent_workers=workers > 0)
        adamw = dict(type='AdamW', lr=1e-3)
        annealing = dict(type='CosineAnnealingLR', by_epoch=False, T_max=iters)
        loop = dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=2)
        cfg = dict(
            model=source.model,
            default_scope=source.default_scope,
            work_dir=str(tmp_path / work_dir),
            experiment_name=f'engine_{next(COUNTER)}',
            randomness=dict(seed=0),
            log_level='WARNING',
            train_dataloader=loader,
            train_cfg=loop,
            optim_wrapper=dict(type='OptimWrapper', optimizer=adamw),
            param_scheduler=[annealing],
            default_hooks=dict(checkpoint=saving),
            custom_hooks=[hook for hook in hooks if isinstance(hook, dict)],
        )
        runner = Runner.from_cfg(Config(cfg | changes))
        for hook in hooks:
            if not isinstance(hook, dict):  # an object already
                runner.register_hook(hook)
        return runner

    return make


@pytest.fixture
def retod_runner(make_runner, data):
    """Build the Runner of a tiny ReToD."""

    def make(iters=4, hooks=(), *args, teacher=None, **kwargs):
        teacher = teacher or dict(momentum=0.9)
        hooks = [dict(type='mmfgl.TeacherHook', **teacher), *hooks]
        return make_runner(pretraining(data), iters, hooks, *args, **kwargs)

    return make


@pytest.fixture
def detector_runner(make_runner, data):
    """Build the Runner of a tiny FGL Faster R-CNN."""

    def make(*args, **kwargs):
        cfg = detection(data)
        loader = cfg.train_dataloader
        loader.batch_sampler = dict(type='AspectRatioBatchSampler')
        scales = [(96, 72), (128, 96)]
        resize = dict(type='RandomChoiceResize', scales=scales)
        loader.dataset.pipeline[2] = dict(resize, keep_ratio=True)
        return make_runner(cfg, *args, **kwargs)

    return make
