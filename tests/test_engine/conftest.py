"""Tiny runs, deterministic on a CPU."""

import itertools

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmfgl.testing import tiny_coco, tiny_fgl_cfg, tiny_retod_cfg

COUNTER = itertools.count()


@pytest.fixture(autouse=True)
def own_scope():
    # a Runner leaves its default scope behind
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    """Digit scenes: 4 train, 2 val and 4 unlabelled images."""
    return tiny_coco(tmp_path_factory.mktemp('engine') / 'data')


def _settings(work_dir, iters, hooks, checkpoint, scope, **changes):
    cfg = dict(
        work_dir=str(work_dir),
        experiment_name=f'engine_{next(COUNTER)}',
        default_scope=scope,
        randomness=dict(seed=0),
        log_level='WARNING',
        train_cfg=dict(
            type='IterBasedTrainLoop', max_iters=iters, val_interval=10**6
        ),
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)
        ),
        param_scheduler=[
            dict(type='CosineAnnealingLR', by_epoch=False, T_max=iters)
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1000),
            checkpoint=dict(
                **{
                    'type': 'mmfgl.AtomicCheckpointHook',
                    'by_epoch': False,
                    'interval': 10**6,
                    'save_last': False,
                    **(checkpoint or {}),
                },
            ),
        ),
        custom_hooks=[hook for hook in hooks if isinstance(hook, dict)],
    )
    cfg.update(changes)
    return Config(cfg)


def _build(cfg, hooks):
    """Runner of a config, with hooks that are objects already."""
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        if not isinstance(hook, dict):
            runner.register_hook(hook)
    return runner


def _loader(dataset, workers, **changes):
    return dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type='InfiniteSampler', shuffle=True),
        dataset=dataset,
        **changes,
    )


def region_loader(data, workers=0):
    """Config of a loader of two region views."""
    return _loader(
        dict(
            type='mmfgl.UnlabelledImages',
            data_root=str(data),
            data_prefix=dict(img_path='unlabelled/'),
            pipeline=[
                dict(type='mmfgl.LoadUnlabelledImage'),
                dict(
                    type='mmfgl.RegionViews',
                    proposer=dict(
                        type='mmfgl.GridRegions', cell_sizes=(32, 48)
                    ),
                    view_size=64,
                    num_regions=6,
                ),
                dict(type='mmfgl.PackRegionViews'),
            ],
        ),
        workers,
        collate_fn=dict(type='default_collate'),
    )


@pytest.fixture
def retod_runner(tmp_path, data):
    """Build the Runner of a tiny ReToD."""

    def make(
        iters=4,
        hooks=(),
        checkpoint=None,
        workers=0,
        model=None,
        work_dir='work',
        **changes,
    ):
        hooks = [dict(type='mmfgl.TeacherHook', momentum=0.9), *hooks]
        changes.setdefault('train_dataloader', region_loader(data, workers))
        cfg = _settings(
            tmp_path / work_dir,
            iters,
            hooks,
            checkpoint,
            'mmpretrain',
            model=model or tiny_retod_cfg(),
            **changes,
        )
        return _build(cfg, hooks)

    return make


@pytest.fixture
def detector_runner(tmp_path, data):
    """Build the Runner of a tiny FGL Faster R-CNN."""

    def make(
        iters=4,
        hooks=(),
        checkpoint=None,
        workers=0,
        work_dir='work',
        **changes,
    ):
        dataset = dict(
            type='CocoDataset',
            data_root=str(data),
            ann_file='annotations/train.json',
            data_prefix=dict(img='train/'),
            metainfo=dict(classes=tuple('0123456789')),
            pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True),
                dict(
                    type='RandomChoiceResize',
                    scales=[(96, 72), (128, 96)],
                    keep_ratio=True,
                ),
                dict(type='RandomFlip', prob=0.5),
                dict(type='PackDetInputs'),
            ],
        )
        loader = _loader(
            dataset,
            workers,
            batch_sampler=dict(type='AspectRatioBatchSampler'),
        )
        changes.setdefault('train_dataloader', loader)
        cfg = _settings(
            tmp_path / work_dir,
            iters,
            hooks,
            checkpoint,
            'mmdet',
            model=tiny_fgl_cfg(num_classes=10),
            **changes,
        )
        return _build(cfg, hooks)

    return make
