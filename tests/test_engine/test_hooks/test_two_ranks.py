"""A run with the hooks of a run, on two ranks that see different data."""

import copy
import logging
import os.path as osp
import time

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.engine.hooks import CollapseError, collapse_monitor_hook
from mmfgl.engine.hooks.robust.unreadable_image_hook import Tally
from mmfgl.testing import detection_batch, region_samples
from tests.test_engine.rank_models import (
    KINDS,
    OBJECTS,
    config_of,
    scope_of,
    write_regions,
)

STEPS = 12  # of a run


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


def run_rank(folder):
    """Everything that one rank computes."""
    write_regions(folder)
    results = {kind: train(kind, folder) for kind in KINDS}
    return dict(results, unreadable=unreadable())


def test_two_ranks(two_ranks):
    first, second, folder = two_ranks('test_hooks')
    for kind in KINDS:
        one, two = first[kind], second[kind]
        assert one['state'].keys() == two['state'].keys()
        for key, value in one['state'].items():
            assert torch.equal(value, two['state'][key]), (kind, key)
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
