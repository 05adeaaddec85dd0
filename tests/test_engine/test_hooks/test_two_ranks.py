"""A run with the hooks of a run, on two ranks that see different data."""

import copy
import logging
import os.path as osp
import time
from types import SimpleNamespace

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dist import barrier, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.engine.hooks import (
    CollapseError,
    NonFiniteError,
    collapse_monitor_hook,
)
from mmfgl.engine.hooks.robust.exact_resume_hook import _sampler_seed
from mmfgl.engine.hooks.robust.strict_resume_hook import StrictResumeHook
from mmfgl.engine.hooks.robust.unreadable_image_hook import Tally
from mmfgl.testing import detection_batch, region_samples
from mmfgl.utils.resume import set_aside, set_resume
from mmfgl.utils.weights import check_weights
from tests.test_engine.rank_models import (
    KINDS,
    OBJECTS,
    TEACHER_BOXES,
    config_of,
    scope_of,
    write_regions,
)
from tests.test_engine.test_hooks.test_robust.poisoned import (
    INF,
    Line,
    line_runner,
)
from tests.test_engine.test_hooks.test_robust.test_nonfinite_guard_scaler import (  # noqa: E501
    ScaledWrapper,
)

STEPS = 12  # of a run
WRAPPER = dict(
    type='MMDistributedDataParallel',
    broadcast_buffers=False,
    device_ids=None,  # a CPU
)


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
    cfg = config_of(kind, folder, teacher_boxes=TEACHER_BOXES)
    if kind == 'retod':
        costs = dict.fromkeys(t['type'] for t in cfg.tasks)
        names = ('objectness', 'distill', 'mask', 'embed', 'dense')
        assert len(costs) == len(names) + 1  # and diversity
        speed = dict(costs=dict.fromkeys(names, 1.0), warmup=5, speed=1.0)
        cfg.balancer = dict(type='mmfgl.TaskAdaptiveLoss', speed=speed)
    hooks = ('ExactResume', 'NonFiniteGuard', 'SyncStatistics')
    runner = Runner(
        model=cfg,
        work_dir=f'{folder}/{kind}',
        launcher='pytorch',
        default_scope=scope_of(kind),
        randomness=dict(seed=0),
        log_level='ERROR',
        cfg=dict(model_wrapper_cfg=WRAPPER),
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
        assert kwargs['backend_args'] == dict(backend='mmfgl.atomic')
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


class Large(Line):
    """Its loss is infinite, but on the main rank."""

    def forward(self, *args, **kwargs):
        losses = super().forward(*args, **kwargs)
        return {k: v * (INF if get_rank() else 1) for k, v in losses.items()}


def loss_of_one_rank(folder):
    """What a rank says whose fellow alone has a loss that is not finite.

    A scaler that searches for its scale is let go on by no rank.
    """
    data = [dict(inputs=torch.ones(2)) for _ in range(2)]
    runner = line_runner(
        folder / 'large',
        data,
        iters=1,
        skips=1,
        model=Large(),
        wrapper=dict(type=ScaledWrapper, init_scale=1024.0),
        launcher='pytorch',
        cfg=dict(model_wrapper_cfg=WRAPPER),
    )
    with pytest.raises(NonFiniteError) as error:
        runner.train()
    return str(error.value)


def resumed(folder):
    """What a rank resumes from if the latest checkpoint is cut off."""
    rank, work_dir = get_rank(), folder / 'resumed'
    if rank == 0:
        work_dir.mkdir()
        whole, last = (work_dir / f'iter_{number}.pth' for number in (10, 20))
        for path in (whole, last):
            torch.save(dict(x=torch.ones(500)), path)
        last.write_bytes(last.read_bytes()[:1000])
        (work_dir / 'last_checkpoint').write_text(str(last))
    barrier()
    cfg = Config(dict(work_dir=str(work_dir), launcher='pytorch', model={}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('RANK', str(rank))
        set_resume(cfg, 'auto')
    if rank == 0:
        set_aside(cfg)
    barrier()
    check_weights(cfg)
    runner = SimpleNamespace(
        _resume=cfg.resume, _load_from=cfg.load_from, cfg=cfg
    )
    StrictResumeHook().before_run(runner)
    return (
        *(runner._resume, runner._load_from),
        *(runner.cfg.resume, runner.cfg.load_from),
    )


def sampler_seeds():
    """Of the run, to whose seed MMEngine adds the rank, and of a config."""
    own = dict(train_dataloader=dict(sampler=dict(seed=3)))
    return [
        _sampler_seed(SimpleNamespace(cfg=cfg, seed=7 + get_rank()))
        for cfg in ({}, own)
    ]


def run_rank(folder):
    """Everything that one rank computes."""
    write_regions(folder)
    results = {kind: train(kind, folder) for kind in KINDS}
    return dict(
        results,
        unreadable=unreadable(),
        large=loss_of_one_rank(folder),
        resumed=resumed(folder),
        seeds=sampler_seeds(),
    )


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
    # of one order, ranks take their parts
    assert first['seeds'] == second['seeds'] == [7, 3]
    # rank 0 has saved before the other went on, for both
    assert first['retod']['saved'] and second['retod']['saved']
    saved = torch.load(
        folder / 'retod' / f'collapsed_iter_{STEPS}.pth', weights_only=False
    )['state_dict']
    for key, value in second['retod']['state'].items():
        assert torch.equal(saved[key], value), key
    assert first['unreadable'] == second['unreadable']
    assert '3 of 4 images' in first['unreadable']
    assert first['large'] == second['large']
    assert 'loss not finite in iteration 1' in first['large']
    whole = str(folder / 'resumed' / 'iter_10.pth')
    for rank in (first, second):
        assert rank['resumed'] == (True, whole, True, whole)
