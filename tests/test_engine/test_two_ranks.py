"""Training on two ranks.

Two ranks with b images each get the gradients of one rank with all 2b, and
what follows from them, to rounding (``TOLERANCE``). It holds where

- BatchNorm is in evaluation mode, or SyncBatchNorm: else each rank normalises
  by its own images;
- all ranks have equally many samples: MMDetection's losses are divided by
  those of the rank, so its samplers take all here, and all images have
  equally many objects (all of FGL's and ReToD's own are divided by those of
  all ranks);
- nothing is drawn at random: ranks have masks and dropout of their own;
- the relational term of region embedding is off: it compares the tokens of
  one rank.
"""

import copy
import json
import logging
import os.path as osp
import time

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmfgl.datasets.region_file import write_embeddings
from mmfgl.engine.hooks import CollapseError, collapse_monitor_hook
from mmfgl.engine.hooks.robust.unreadable_image_hook import Tally
from mmfgl.models.selfsup.region_encoding import Masking
from mmfgl.models.selfsup.tasks import MaskedRegionTask
from mmfgl.registry import MODELS
from mmfgl.testing import (
    detection_batch,
    region_batch,
    region_samples,
    tiny_fgl_cfg,
    tiny_retod_cfg,
)
from mmfgl.testing.models import CHANNELS, tiny_backbone_cfg
from mmfgl.testing.retod import TASKS

TOLERANCE = dict(rtol=1e-3, atol=1e-5)
STEPS = 20  # of a run, and beside one rank
OBJECTS = 3  # of a view or image
WIDTH = 6  # of the embeddings
ROWS = 2 * OBJECTS  # of the region file
KINDS = ('retod', 'fgl')


def write_regions(folder):
    """A region file, by the main rank."""
    if get_rank() != 0:
        barrier()
        return
    path = folder / 'regions.json'
    rows = np.random.default_rng(0).normal(size=(ROWS, WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    beside = write_embeddings(str(path), rows.astype(np.float16))
    boxes = [
        dict(id=i, image_id=1, category_id=1, bbox=[i, i, 9, 9])
        for i in range(ROWS)
    ]
    content = dict(
        info=dict(embeddings=beside, teacher=dict(model='x')),
        images=[dict(id=1, file_name='a.jpg', width=64, height=64)],
        annotations=boxes,
    )
    path.write_text(json.dumps(content))
    barrier()


def config_of(kind, folder, relation_weight=1.0):
    """Config of ReToD with every task, or of FGL Faster R-CNN."""
    if kind == 'fgl':
        return tiny_fgl_cfg()
    embed = dict(
        type='mmfgl.RegionEmbeddingTask',
        region_file=f'{folder}/regions.json',
        in_channels=CHANNELS,
        out_channels=WIDTH,
        hidden_channels=16,
        relation_weight=relation_weight,
    )
    dense = dict(
        type='mmfgl.DenseDistillTask',
        teacher=dict(
            type='mmfgl.FrozenTeacher',
            backbone=tiny_backbone_cfg(),
            data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        ),
        backbone=[None, None, (32, 2)],
    )
    return tiny_retod_cfg(*TASKS, tasks=[*TASKS.values(), embed, dense])


def scope_of(kind):
    return 'mmpretrain' if kind == 'retod' else 'mmdet'


# --- one rank with 2b images, or two with b each --------------------------
def comparable(kind, folder):
    """A model that treats every image alike, whatever it is batched with."""
    cfg = config_of(kind, folder, relation_weight=0.0)
    samplers = cfg.detector if kind == 'retod' else cfg
    for stage in ('rpn', 'rcnn'):
        samplers.train_cfg[stage].sampler.num = 10**6
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope_of(kind)):
        model = MODELS.build(cfg)
    model.teacher_is_driven = True
    model.train()
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.eval()
        if isinstance(module, nn.Dropout | nn.MultiheadAttention):
            module.p = module.dropout = 0.0
    return model


def same_masks(task, num_views, num_regions):
    """Like ``MaskedRegionTask.draw``, but alike for all views."""
    masked = torch.arange(num_regions).expand(num_views, -1) % 3 == 0
    return Masking(masked, task.mask_token, task.leak_iou)


def batch_of(kind, step):
    """A batch of 4 images, or the half of it that is this rank's."""
    if kind == 'fgl':
        batch = detection_batch([(64, 96)] * 4, OBJECTS, seed=step)
    else:
        batch = region_batch(num_images=4, num_objects=OBJECTS, seed=step)
    count = 4 // get_world_size()
    own = slice(get_rank() * count, (get_rank() + 1) * count)
    views = kind == 'retod'
    inputs = batch['inputs']
    return dict(
        inputs=[x[own] for x in inputs] if views else inputs[own],
        data_samples=batch['data_samples'][own],
    )


def follow(kind, folder):
    """Gradients of the first step, weights and buffers after the last."""
    model = comparable(kind, folder)
    wrapped = model
    if get_world_size() > 1:
        wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)
    gradients = None
    for step in range(STEPS):
        data = model.data_preprocessor(batch_of(kind, step), True)
        losses = wrapped(**data, mode='loss')
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        gradients = gradients or {
            name: param.grad.clone()
            for name, param in model.named_parameters()
            if param.grad is not None
        }
        optimizer.step()
        if kind == 'retod':
            model.update_teacher(0.9)
    return dict(gradients=gradients, weights=model.state_dict())


# --- a run with the hooks of a run -----------------------------------------
class Draws(Hook):
    """Keeps what each iteration would draw at random."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, *args, **kwargs):
        self.seen.append(torch.initial_seed())


def train(kind, folder):
    """Train until the collapse monitor stops ReToD, or to the end."""
    if kind == 'fgl':
        batch = detection_batch([(64, 96), (96, 64)] * 4, OBJECTS)
        names = batch['inputs'], batch['data_samples']
        data = [
            dict(inputs=i, data_samples=s) for i, s in zip(*names, strict=True)
        ]
        collate, more = 'pseudo_collate', []
    else:
        data = region_samples(num_images=8, num_objects=OBJECTS)
        collate = 'default_collate'
        monitor = dict(warmup=0.0, patience=0.0, window=1, action='stop')
        more = [
            dict(type='mmfgl.TeacherHook', momentum=0.9, export='student'),
            dict(type='mmfgl.CollapseMonitorHook', **monitor),
        ]
    cfg = config_of(kind, folder)
    if kind == 'retod':
        costs = dict.fromkeys(t['type'] for t in cfg.tasks)
        names = ('objectness', 'distill', 'mask', 'embed', 'dense')
        assert len(costs) == len(names) + 1  # and diversity
        speed = dict(costs=dict.fromkeys(names, 1.0), warmup=5, speed=1.0)
        cfg.balancer = dict(type='mmfgl.TaskAdaptiveLoss', speed=speed)
    hooks = ('ExactResume', 'NonFiniteGuard', 'SyncStatistics')
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        device_ids=None,  # a CPU
    )
    runner = Runner(
        model=cfg,
        work_dir=f'{folder}/{kind}',
        launcher='pytorch',
        default_scope=scope_of(kind),
        randomness=dict(seed=0),
        log_level='ERROR',
        cfg=dict(model_wrapper_cfg=wrapper),
        train_dataloader=dict(
            batch_size=2,
            dataset=data,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type=collate),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=STEPS),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
        custom_hooks=[*more, *[dict(type=f'mmfgl.{x}Hook') for x in hooks]],
        default_hooks=dict(
            checkpoint=dict(
                type='mmfgl.AtomicCheckpointHook',
                by_epoch=False,
                interval=10**6,
                save_last=False,
            )
        ),
    )
    draws = Draws()
    runner.register_hook(draws)
    if kind == 'retod':
        stop_at_the_end(runner)
        with pytest.raises(CollapseError):
            runner.train()
    else:
        runner.train()
    path = f'{folder}/{kind}/collapsed_iter_{STEPS}.pth'
    return dict(
        saved=osp.exists(path),
        state=copy.deepcopy(runner.model.module.state_dict()),
        draws=draws.seen,
    )


def stop_at_the_end(runner):
    """A collapse in the last step; the main process is slow in saving."""
    plain, save = collapse_monitor_hook.symptoms, runner.save_checkpoint

    def symptoms(stats, width):
        assert plain(stats, width) is not None
        return ['same'] if runner.iter == STEPS - 1 else []

    def slow(*args, **kwargs):
        time.sleep(0.5 * (get_rank() == 0))
        save(*args, **kwargs)

    collapse_monitor_hook.symptoms, runner.save_checkpoint = symptoms, slow


def unreadable():
    """What a rank says whose fellow cannot read its images."""
    tally = Tally(max_share=0.5)
    skipped = [(f'{i}.jpg', 'cut off') for i in range(3)]
    sample = DetDataSample(metainfo=dict(skipped=skipped))
    tally.collect(dict(data_samples=[sample] * get_rank()))
    with pytest.raises(RuntimeError) as error:
        tally.compare(logging.getLogger(), 4)
    return str(error.value)


# --- the test -------------------------------------------------------------
def run_rank(folder):
    """Everything that one rank computes; ranks see different data."""
    write_regions(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedRegionTask, 'draw', same_masks)
        results = {kind: follow(kind, folder) for kind in KINDS}
    for kind in KINDS:
        results[kind].update(train(kind, folder))
    return dict(results, unreadable=unreadable())


def test_two_ranks(two_ranks, monkeypatch):
    first, second, folder = two_ranks('test_engine')
    monkeypatch.setattr(MaskedRegionTask, 'draw', same_masks)
    whole = {kind: follow(kind, folder) for kind in KINDS}
    for kind in KINDS:
        one, two = first[kind], second[kind]
        for part in ('gradients', 'weights', 'state'):
            assert one[part].keys() == two[part].keys()
            for key, value in one[part].items():
                assert torch.equal(value, two[part][key]), (kind, part, key)
        for part in ('gradients', 'weights'):
            for key, value in whole[kind][part].items():
                torch.testing.assert_close(
                    one[part][key],
                    value,
                    msg=lambda text, name=(kind, part, key): f'{name}: {text}',
                    **TOLERANCE,
                )
        # statistics have moved, and each rank has drawn its own numbers
        keys = [k for k in one['state'] if 'running_mean' in k]
        assert any(one['state'][key].any() for key in keys)
        assert not set(one['draws']) & set(two['draws'])
    # rank 0 has saved before the other went on, for both
    assert first['retod']['saved'] and second['retod']['saved']
    saved = torch.load(
        folder / 'retod' / f'collapsed_iter_{STEPS}.pth', weights_only=False
    )['state_dict']
    for key, value in second['retod']['state'].items():
        assert torch.equal(saved[key], value), key
    assert first['unreadable'] == second['unreadable']
    assert '3 of 4 images' in first['unreadable']
