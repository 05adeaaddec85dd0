"""Vision Transformers: MAE or ReToD, then a detector, with real Runners."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.models.utils import resize_pos_embed
from torch.utils.data import DataLoader

from mmfgl.registry import MODELS
from mmfgl.testing import (
    detection_batch,
    region_samples,
    tiny_fgl_cfg,
    tiny_retod_cfg,
)
from mmfgl.testing.vit import tiny_mae_cfg, tiny_vit_cfg

COUNTER = itertools.count()
SHARED = [
    'backbone',
    'neck',
    'roi_head.bbox_roi_extractor',
    'roi_head.tokenizer',
    'roi_head.transformer',
]
# the decoder of MAE is called a neck
FROM_MAE = dict(
    modules=['backbone'], revise_keys=[(r'^neck\.', 'mae_decoder.')]
)


class Snapshot(Hook):
    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())


@pytest.fixture(scope='module', autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


def items_of(batch):
    return [
        dict(inputs=image, data_samples=sample)
        for image, sample in zip(*batch.values(), strict=True)
    ]


def train(work_dir, model, items, collate, hooks=(), **changes):
    """Train for one iteration; return the runner and its checkpoint."""
    optim_wrapper = dict(
        type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)
    )
    runner = Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=DataLoader(items, 2, collate_fn=collate),
        train_cfg=dict(by_epoch=False, max_iters=1),
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1)
        ),
        custom_hooks=list(hooks),
        experiment_name=f'vit_{next(COUNTER)}',
        **{'optim_wrapper': optim_wrapper, **changes},
    )
    runner.train()
    losses = runner.message_hub.get_scalar('train/loss').data[0]
    assert len(losses) == 1 and 0 < losses[0] < 1e3
    return runner, work_dir / 'iter_1.pth'


def train_detector(work_dir, checkpoint, chain, img_size=64, **changes):
    snapshot = Snapshot()
    runner, _ = train(
        work_dir,
        tiny_fgl_cfg(**tiny_vit_cfg(img_size, drop_path_rate=0.1)),
        items_of(detection_batch(sizes=[(64, 96), (80, 72)])),
        pseudo_collate,
        [dict(type='mmfgl.CheckpointChainHook', **chain), snapshot],
        load_from=str(checkpoint),
        default_scope='mmdet',
        **changes,
    )
    return runner, snapshot.state


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


@pytest.fixture(scope='module')
def mae(tmp_path_factory):
    images = [
        dict(inputs=item['inputs'][0], data_samples=item['data_samples'])
        for item in region_samples(2)
    ]
    return train(
        tmp_path_factory.mktemp('mae'), tiny_mae_cfg(), images, default_collate
    )


@pytest.fixture(scope='module')
def retod(tmp_path_factory):
    return train(
        tmp_path_factory.mktemp('retod'),
        tiny_retod_cfg(**tiny_vit_cfg()),
        region_samples(2),
        default_collate,
        [dict(type='mmfgl.TeacherHook', momentum=0.9)],
    )


@pytest.mark.parametrize('img_size', [64, 96])
def test_from_mae(mae, tmp_path, img_size):
    pretrainer, checkpoint = mae
    runner, start = train_detector(tmp_path, checkpoint, FROM_MAE, img_size)
    assert '100.0 % of the declared modules loaded' in log_of(runner)
    theirs = pretrainer.model.state_dict()
    keys = [key for key in start if key.startswith('backbone.')]
    assert len(keys) > 25
    for key in keys:
        want = theirs[key]
        if key == 'backbone.pos_embed':
            cells = img_size // 16
            want = resize_pos_embed(want, (4, 4), (cells, cells))
            assert want.shape == (1, cells**2 + 1, 32)
        assert torch.equal(start[key], want), key
    # nothing of the decoder has got into the pyramid
    moved = runner.model.state_dict()
    assert any(not torch.equal(moved[key], start[key]) for key in keys)


def test_from_retod(retod, tmp_path):
    pretrainer, checkpoint = retod
    runner, start = train_detector(tmp_path, checkpoint, dict(modules=SHARED))
    assert '100.0 % of the declared modules loaded' in log_of(runner)
    teacher = pretrainer.model.teacher.state_dict()
    keys = [key for key in start if key.startswith(tuple(SHARED))]
    assert len(keys) > 80
    assert all(torch.equal(start[key], teacher[key]) for key in keys)


def test_width_that_does_not_fit(mae, tmp_path):
    checkpoint = torch.load(mae[1], weights_only=False)
    state = checkpoint['state_dict']
    state['backbone.pos_embed'] = state['backbone.pos_embed'][..., :16]
    torch.save(dict(state_dict=state), tmp_path / 'narrow.pth')
    with pytest.raises(RuntimeError, match='mismatched: backbone.pos_embed'):
        train_detector(tmp_path, tmp_path / 'narrow.pth', FROM_MAE, 96)


def test_learning_rate_falls_with_depth(mae, tmp_path):
    optim_wrapper = dict(
        type='OptimWrapper',
        constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
        optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
        paramwise_cfg=dict(
            layer_decay_rate=0.5,
            norm_decay_mult=0.0,
            bias_decay_mult=0.0,
            custom_keys={'.pos_embed': dict(decay_mult=0.0)},
        ),
    )
    runner, _ = train_detector(
        tmp_path, mae[1], FROM_MAE, optim_wrapper=optim_wrapper
    )
    groups = {
        group['param_name']: group
        for group in runner.optim_wrapper.optimizer.param_groups
    }
    assert groups.keys() == dict(runner.model.named_parameters()).keys()
    for name, lr in (
        ('backbone.pos_embed', 1 / 8),
        ('backbone.patch_embed.projection.weight', 1 / 8),
        ('backbone.layers.0.attn.qkv.weight', 1 / 4),
        ('backbone.layers.1.ln1.weight', 1 / 2),
        ('backbone.ln1.weight', 1),
        ('neck.outputs.0.0.conv.weight', 1),
        ('roi_head.bbox_head.fc_cls.weight', 1),
    ):
        assert groups[name]['lr'] == pytest.approx(lr), name
    for name, decay in (
        ('backbone.pos_embed', 0),
        ('backbone.layers.0.ln1.weight', 0),
        ('backbone.layers.0.attn.qkv.bias', 0),
        ('backbone.layers.0.attn.qkv.weight', 0.1),
    ):
        assert groups[name]['weight_decay'] == decay, name


def test_images_of_any_size():
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(tiny_fgl_cfg(**tiny_vit_cfg())).eval()
    model.roi_head.bbox_head.fc_reg.weight.data.zero_()
    sizes = [(50, 70), (17, 33), (130, 40)]
    for batch in (sizes, sizes[1:2]):
        results = model.test_step(detection_batch(sizes=batch))
        for size, result in zip(batch, results, strict=True):
            found = result.pred_instances
            assert len(found) > 0
            limits = torch.tensor([size[1], size[0]] * 2) * 2
            assert (found.bboxes >= 0).all()
            assert (found.bboxes <= limits).all()
    # a map of one token: less than a patch
    feats = model.extract_feat(torch.randn(1, 3, 9, 9))
    assert [tuple(f.shape[2:]) for f in feats] == [
        (4, 4),
        (2, 2),
        (1, 1),
        (1, 1),
    ]
