import itertools

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import distributed
from torch.utils.data import DataLoader

from mmfgl.engine.hooks import FreezeHook
from mmfgl.registry import MODELS
from mmfgl.testing import detection_batch, tiny_fgl_cfg

CLASSIFIER = 'roi_head.bbox_head.fc_cls'
COUNTER = itertools.count()


@pytest.fixture(autouse=True)
def own_scope():
    # the Runner leaves its default scope behind
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


class Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(images=len(results))


class Watcher(Hook):
    """Keeps the weights that training starts from, and modes as it runs."""

    priority = 'VERY_LOW'

    def before_train(self, runner):
        state = runner.model.state_dict()
        self.start = {k: v.clone() for k, v in state.items()}
        self.names = {n for n, _ in runner.model.named_modules()}
        self.training, self.vals = [], 0
        optimizer = runner.optim_wrapper.optimizer
        # keeps the gradients to be looked at
        runner.optim_wrapper.zero_grad = lambda: None
        self.held = sum(len(g['params']) for g in optimizer.param_groups)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        modules = runner.model.named_modules()
        self.training.append({n for n, m in modules if m.training})

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.grads = {
            n for n, p in runner.model.named_parameters() if p.grad is not None
        }
        if runner.iter > 0:
            assert all(v.isfinite().all() for v in outputs.values())

    def after_val_epoch(self, runner, metrics=None):
        self.vals += 1


def make_runner(work_dir, hooks, iters=4, **changes):
    torch.manual_seed(0)
    model = MODELS.build(tiny_fgl_cfg())
    batch = detection_batch([(64, 64)] * 4)
    samples = [
        dict(inputs=image, data_samples=sample)
        for image, sample in zip(
            batch['inputs'], batch['data_samples'], strict=True
        )
    ]
    loader = DataLoader(samples * 2, batch_size=2, collate_fn=pseudo_collate)
    settings = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        val_evaluator=[Nothing()],
        val_cfg=dict(),
        train_cfg=dict(
            type='IterBasedTrainLoop', max_iters=iters, val_interval=2
        ),
        # weight decay would shrink whatever the optimizer holds
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.5)
        ),
        custom_hooks=hooks,
        default_hooks=dict(checkpoint=None),
        default_scope='mmdet',
        log_level='WARNING',
        experiment_name=f'freeze_hook_{next(COUNTER)}',
    )
    settings.update(changes)
    return Runner(**settings)


def changed(before, after):
    assert before.keys() == after.keys()
    return {k for k in before if not torch.equal(before[k], after[k])}


def freeze(*names):
    return dict(type='mmfgl.FreezeHook', trainable=list(names or [CLASSIFIER]))


def test_all_else_is_the_same_bit_for_bit(tmp_path):
    watcher = Watcher()
    runner = make_runner(tmp_path, [freeze(), watcher])
    model = runner.train()
    classifier = {f'{CLASSIFIER}.weight', f'{CLASSIFIER}.bias'}
    assert watcher.vals == 2  # one of them between training steps
    assert changed(watcher.start, model.state_dict()) == classifier
    assert watcher.grads == classifier
    assert watcher.held == 2
    params = dict(model.named_parameters())
    assert {n for n, p in params.items() if p.requires_grad} == classifier
    # BatchNorm statistics would show in the buffers, dropout would not
    parents = {'', 'roi_head', 'roi_head.bbox_head', CLASSIFIER}
    assert watcher.training == [parents] * 4


def test_without_the_hook_the_rest_moves(tmp_path):
    watcher = Watcher()
    model = make_runner(tmp_path, [watcher]).train()
    moved = changed(watcher.start, model.state_dict())
    assert any('running_mean' in key for key in moved)
    assert any(key.startswith('roi_head.tokenizer') for key in moved)
    assert watcher.training == [watcher.names] * 4


def test_groups_of_a_paramwise_optimizer(tmp_path):
    watcher = Watcher()
    runner = make_runner(
        tmp_path,
        [freeze(CLASSIFIER, 'roi_head.tokenizer'), watcher],
        iters=2,
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.5),
            paramwise_cfg=dict(norm_decay_mult=0.0),
        ),
        param_scheduler=dict(
            type='CosineAnnealingLR', by_epoch=False, T_max=2
        ),
    )
    model = runner.train()
    moved = changed(watcher.start, model.state_dict())
    assert {k.rsplit('.', 1)[0] for k in moved} >= {CLASSIFIER}
    for key in moved:
        assert key.startswith((CLASSIFIER, 'roi_head.tokenizer.')), key
    tokenizer = dict(model.named_parameters())
    names = [k for k in tokenizer if k.startswith('roi_head.tokenizer.')]
    assert watcher.held == 2 + len(names)


def test_resume(tmp_path):
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    options = dict(default_hooks=dict(checkpoint=checkpoint))
    first = make_runner(tmp_path, [freeze()], iters=2, **options).train()
    watcher = Watcher()
    runner = make_runner(
        tmp_path,
        [freeze(), watcher],
        load_from=str(tmp_path / 'iter_2.pth'),
        resume=True,
        **options,
    )
    model = runner.train()
    assert len(watcher.training) == 2
    assert not changed(first.state_dict(), watcher.start)
    assert changed(watcher.start, model.state_dict()) == {
        f'{CLASSIFIER}.weight',
        f'{CLASSIFIER}.bias',
    }
    assert len(runner.optim_wrapper.optimizer.state) == 2


@pytest.fixture
def process_group(tmp_path, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/init', rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def test_distributed_waits_for_no_frozen_parameter(tmp_path, process_group):
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=False,
        device_ids=None,
    )
    watcher = Watcher()
    runner = make_runner(
        tmp_path,
        [freeze(), watcher],
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=wrapper),
    )
    assert runner.distributed
    model = runner.train()
    moved = changed(watcher.start, model.state_dict())
    assert {k.removeprefix('module.') for k in moved} == {
        f'{CLASSIFIER}.weight',
        f'{CLASSIFIER}.bias',
    }


def test_validation_alone_needs_no_optimizer(tmp_path):
    runner = make_runner(tmp_path, [freeze()], load_from=None)
    runner.val()
    assert all(p.requires_grad for p in runner.model.parameters())


def test_unknown_name_lists_the_known_ones(tmp_path):
    runner = make_runner(tmp_path, [freeze('roi_head.bbox_head.cls')])
    with pytest.raises(ValueError, match='roi_head.bbox_head holds: .*fc_cls'):
        runner.train()


def test_a_named_module_must_be_trainable(tmp_path):
    runner = make_runner(tmp_path, [freeze()])
    runner.model.roi_head.bbox_head.fc_cls.requires_grad_(False)
    with pytest.raises(ValueError, match='do not require gradients'):
        runner.train()


def test_frozen_names_the_others(tmp_path):
    watcher = Watcher()
    hook = dict(type='mmfgl.FreezeHook', frozen=['backbone', 'neck'])
    runner = make_runner(tmp_path, [hook, watcher])
    model = runner.train()
    moved = changed(watcher.start, model.state_dict())
    assert moved
    assert {name.split('.')[0] for name in moved} == {'rpn_head', 'roi_head'}
    assert {name.split('.')[0] for name in watcher.grads} == {
        'rpn_head',
        'roi_head',
    }
    for names in watcher.training:
        assert {'', 'rpn_head', 'roi_head.bbox_head'} < names
        assert not any(n.split('.')[0] in ('backbone', 'neck') for n in names)


@pytest.mark.parametrize(
    'args',
    [
        dict(trainable='roi_head'),
        dict(trainable=[]),
        dict(frozen='backbone'),
        dict(),
        dict(trainable=['roi_head'], frozen=['backbone']),
    ],
)
def test_wrong_argument(args):
    with pytest.raises(ValueError, match='list of names'):
        FreezeHook(**args)
