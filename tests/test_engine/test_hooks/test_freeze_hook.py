import copy

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from torch import distributed

from mmfgl.engine.hooks import FreezeHook

CLASSIFIER = 'roi_head.bbox_head.fc_cls'
TRAINED = {f'{CLASSIFIER}.weight', f'{CLASSIFIER}.bias'}


# by name, since a config that holds a class can not be printed everywhere
@METRICS.register_module(name='CountImages', force=True)
class CountImages(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(images=len(results))


class Watcher(Hook):
    """Keeps the weights that training starts from, and modes as it runs."""

    priority = 'VERY_LOW'

    def before_train(self, runner):
        self.start = copy.deepcopy(runner.model.state_dict())
        self.names = {n for n, _ in runner.model.named_modules()}
        self.training, self.vals = [], 0
        # keeps the gradients to be looked at
        runner.optim_wrapper.zero_grad = lambda: None
        groups = runner.optim_wrapper.param_groups
        self.held = sum(len(group['params']) for group in groups)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        modules = runner.model.named_modules()
        self.training.append({n for n, m in modules if m.training})

    def after_train_iter(self, runner, *args, **kwargs):
        self.grads = {
            n for n, p in runner.model.named_parameters() if p.grad is not None
        }

    def after_val_epoch(self, runner, metrics=None):
        self.vals += 1

    def changed(self, model):
        """Names of what has moved since the start."""
        state = model.state_dict()
        assert state.keys() == self.start.keys()
        return {
            key.removeprefix('module.')
            for key, value in state.items()
            if not torch.equal(value, self.start[key])
        }


@pytest.fixture
def watcher():
    return Watcher()


@pytest.fixture
def make(detector_runner):
    """A Runner of four iterations, with validation after every second."""

    def build(hooks, **changes):
        loader = detector_runner(1, work_dir='unused').cfg.train_dataloader
        loader.sampler = dict(type='DefaultSampler', shuffle=False)
        loader.pop('batch_sampler')
        # weight decay would shrink whatever the optimizer holds
        sgd = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.5)
        settings = dict(
            optim_wrapper=dict(optimizer=sgd),
            param_scheduler=None,
            val_cfg=dict(),
            val_evaluator=dict(type='mmengine.CountImages'),
            val_dataloader=loader,
        )
        return detector_runner(4, hooks, **settings | changes)

    return build


def freeze(*names):
    return dict(type='mmfgl.FreezeHook', trainable=list(names or [CLASSIFIER]))


def test_all_else_is_the_same_bit_for_bit(make, watcher):
    model = make([freeze(), watcher]).train()
    assert watcher.vals == 2  # one of them between training steps
    assert watcher.changed(model) == watcher.grads == TRAINED
    assert watcher.held == 2
    params = dict(model.named_parameters())
    assert {n for n, p in params.items() if p.requires_grad} == TRAINED
    # BatchNorm statistics would show in the buffers, dropout would not
    parents = {'', 'roi_head', 'roi_head.bbox_head', CLASSIFIER}
    assert watcher.training == [parents] * 4


def test_groups_of_a_paramwise_optimizer(make, watcher):
    adamw = dict(type='AdamW', lr=0.01, weight_decay=0.5)
    grouped = dict(optimizer=adamw, paramwise_cfg=dict(norm_decay_mult=0.0))
    annealing = dict(type='CosineAnnealingLR', by_epoch=False, T_max=2)
    hooks = [freeze(CLASSIFIER, 'roi_head.tokenizer'), watcher]
    runner = make(hooks, optim_wrapper=grouped, param_scheduler=annealing)
    model = runner.train()
    moved = watcher.changed(model)
    assert moved >= TRAINED
    for key in moved:
        assert key.startswith((CLASSIFIER, 'roi_head.tokenizer.')), key
    names = [n for n, _ in model.named_parameters()]
    tokenizer = [n for n in names if n.startswith('roi_head.tokenizer.')]
    assert watcher.held == 2 + len(tokenizer)


def test_resume(make, watcher):
    first = make([freeze()], checkpoint=dict(interval=2))
    first.train()
    path = first.work_dir + '/iter_2.pth'
    runner = make([freeze(), watcher], load_from=path, resume=True)
    model = runner.train()
    assert len(watcher.training) == 2
    saved = torch.load(path, weights_only=False)['state_dict']
    for key, value in watcher.start.items():
        assert torch.equal(value, saved[key]), key
    assert watcher.changed(model) == TRAINED
    assert len(runner.optim_wrapper.optimizer.state) == 2


@pytest.fixture
def process_group(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    init = f'file://{tmp_path}/init'
    distributed.init_process_group('gloo', init, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


WRAPPER = dict(
    type='MMDistributedDataParallel',
    broadcast_buffers=False,
    find_unused_parameters=False,
    device_ids=None,
)


def renewed(module, implementation='torch'):
    """As a conversion to SyncBatchNorm, for CPUs: new norm modules."""
    for name, child in module.named_children():
        is_norm = isinstance(child, torch.nn.BatchNorm2d)
        new = copy.deepcopy(child) if is_norm else renewed(child)
        module.add_module(name, new)
    return module


@pytest.mark.usefixtures('process_group')
def test_frozen_sync_bn_does_not_move(make, monkeypatch):
    """It replaces BatchNorm modules when the model is wrapped."""
    convert = 'mmengine.runner.runner.convert_sync_batchnorm'
    monkeypatch.setattr(convert, renewed)
    changes = dict(launcher='pytorch', model_wrapper_cfg=WRAPPER)
    runner = make([freeze()], **changes, sync_bn='torch')
    (hook,) = (h for h in runner.hooks if isinstance(h, FreezeHook))
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook.before_run(runner)
    runner.model.train()
    hook.before_train_iter(runner)
    modules = list(runner.model.modules())
    norms = [m for m in modules if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) > 10
    assert not any(module.training for module in norms)


@pytest.mark.usefixtures('process_group')
def test_distributed_waits_for_no_frozen_parameter(make, watcher):
    changes = dict(launcher='pytorch', model_wrapper_cfg=WRAPPER)
    runner = make([freeze(), watcher], **changes)
    assert runner.distributed
    assert watcher.changed(runner.train()) == TRAINED


def test_validation_alone_needs_no_optimizer(make):
    runner = make([freeze()])
    runner.val()
    assert all(p.requires_grad for p in runner.model.parameters())


def test_names_that_cannot_be_trained(make):
    runner = make([freeze('roi_head.bbox_head.cls')])
    with pytest.raises(ValueError, match='roi_head.bbox_head holds: .*fc_cls'):
        runner.train()
    runner = make([freeze()])
    runner.model.roi_head.bbox_head.fc_cls.requires_grad_(False)
    with pytest.raises(ValueError, match='do not require gradients'):
        runner.train()


def test_frozen_names_the_others(make, watcher):
    hook = dict(type='mmfgl.FreezeHook', frozen=['backbone', 'neck'])
    moved = watcher.changed(make([hook, watcher]).train())
    for names in (moved, watcher.grads):
        parts = {name.split('.')[0] for name in names}
        assert parts == {'rpn_head', 'roi_head'}
    for names in watcher.training:
        assert {'', 'rpn_head', 'roi_head.bbox_head'} < names
        assert not any(n.split('.')[0] in ('backbone', 'neck') for n in names)


@pytest.mark.parametrize(
    'args',
    [
        dict(trainable='roi_head'),
        dict(frozen=[]),
        dict(),
        dict(trainable=['roi_head'], frozen=['backbone']),
    ],
)
def test_wrong_argument(args):
    with pytest.raises(ValueError, match='list of names'):
        FreezeHook(**args)
