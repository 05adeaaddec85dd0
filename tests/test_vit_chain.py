"""Vision Transformers: MAE or ReToD, then a detector, with real Runners."""

import copy
import itertools
from pathlib import Path

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.models.utils import resize_pos_embed
from torch.utils.data import DataLoader

from mmfgl.registry import MODELS
from mmfgl.testing import detection_batch, tiny_fgl_cfg, tiny_retod_cfg
from mmfgl.testing.vit import WIDTH, tiny_vit_arch, tiny_vit_cfg

COUNTER = itertools.count()
SHARED = ['backbone', 'neck', 'rpn_head', 'roi_head.transformer']
FROM_MAE = dict(modules=['backbone'])


class Snapshot(Hook):
    """Keeps the model's state as training starts."""

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())


@pytest.fixture(scope='module', autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


def build(scope, cfg):
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg)
        model.init_weights()
        return model


def train_detector(work_dir, state, chain, img_size=64):
    """Train for one iteration; return the state before and after it."""
    checkpoint = work_dir / 'start.pth'
    torch.save(dict(state_dict=state), checkpoint)
    batch = detection_batch(sizes=[(64, 96), (80, 72)])
    items = [
        dict(inputs=image, data_samples=sample)
        for image, sample in zip(*batch.values(), strict=True)
    ]
    snapshot = Snapshot()
    runner = Runner(
        model=tiny_fgl_cfg(**tiny_vit_cfg(img_size, drop_path_rate=0.1)),
        work_dir=str(work_dir),
        train_dataloader=DataLoader(items, 2, collate_fn=pseudo_collate),
        train_cfg=dict(by_epoch=False, max_iters=1),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        custom_hooks=[
            dict(type='mmfgl.CheckpointChainHook', **chain),
            snapshot,
        ],
        load_from=str(checkpoint),
        default_scope='mmdet',
        experiment_name=f'vit_{next(COUNTER)}',
    )
    runner.train()
    log = next(Path(runner.log_dir).glob('*.log')).read_text()
    assert '100.0 % of the declared modules loaded' in log
    return snapshot.state, runner.model.state_dict()


@pytest.fixture(scope='module')
def mae():
    """The state of an MAE whose encoder is that of ``tiny_vit_cfg``."""
    cfg = dict(
        type='mmpretrain.MAE',
        data_preprocessor=dict(
            type='mmpretrain.SelfSupDataPreprocessor',
            mean=[127.5] * 3,
            std=[64.0] * 3,
        ),
        backbone=dict(
            type='mmpretrain.MAEViT',
            arch=tiny_vit_arch(),
            img_size=64,
            patch_size=16,
        ),
        neck=dict(
            type='mmpretrain.MAEPretrainDecoder',
            num_patches=16,
            patch_size=16,
            embed_dim=WIDTH,
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2,
        ),
        head=dict(
            type='mmpretrain.MAEPretrainHead',
            norm_pix=True,
            patch_size=16,
            loss=dict(
                type='mmpretrain.PixelReconstructionLoss', criterion='L2'
            ),
        ),
    )
    return build('mmpretrain', cfg).state_dict()


@pytest.mark.parametrize('img_size', [64, 96])
def test_from_mae(mae, tmp_path, img_size):
    start, moved = train_detector(tmp_path, mae, FROM_MAE, img_size)
    keys = [key for key in start if key.startswith('backbone.')]
    assert len(keys) > 25
    for key in keys:
        want = mae[key]
        if key == 'backbone.pos_embed':
            cells = img_size // 16
            want = resize_pos_embed(want, (4, 4), (cells, cells))
            assert want.shape == (1, cells**2 + 1, 32)
        assert torch.equal(start[key], want), key
    # nothing of the decoder has got into the pyramid
    assert any(not torch.equal(moved[key], start[key]) for key in keys)


def test_from_retod(tmp_path):
    detector = tiny_fgl_cfg(num_classes=1, **tiny_vit_cfg())
    retod = build('mmpretrain', tiny_retod_cfg(detector=detector)).state_dict()
    start, _ = train_detector(tmp_path, retod, dict(modules=SHARED))
    keys = [key for key in start if key.startswith(tuple(SHARED))]
    assert len(keys) > 80
    assert all(torch.equal(start[key], retod[key]) for key in keys)


def test_width_that_does_not_fit(mae, tmp_path):
    narrow = {**mae, 'backbone.pos_embed': mae['backbone.pos_embed'][..., :16]}
    with pytest.raises(RuntimeError, match='mismatched: backbone.pos_embed'):
        train_detector(tmp_path, narrow, FROM_MAE, 96)


def test_learning_rate_falls_with_depth():
    model = build('mmdet', tiny_fgl_cfg(**tiny_vit_cfg()))
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1),
            paramwise_cfg=dict(
                layer_decay_rate=0.5,
                norm_decay_mult=0.0,
                bias_decay_mult=0.0,
                custom_keys={'.pos_embed': dict(decay_mult=0.0)},
            ),
        ),
    )
    groups = {
        group['param_name']: group for group in wrapper.optimizer.param_groups
    }
    assert groups.keys() == dict(model.named_parameters()).keys()
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
    model = build('mmdet', tiny_fgl_cfg(**tiny_vit_cfg())).eval()
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
    sides = [tuple(f.shape[2:]) for f in feats]
    assert sides == [(4, 4), (2, 2), (1, 1), (1, 1)]
