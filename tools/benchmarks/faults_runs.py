"""Tiny configs whose runs are attacked, and hooks that do it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmfgl.testing import tiny_fgl_cfg, tiny_retod_cfg

CLASSES = tuple('0123456789')
GUARDS = (
    dict(type='mmfgl.ExactResumeHook'),
    dict(type='mmfgl.NonFiniteGuardHook'),
    dict(type='mmfgl.CollapseMonitorHook', action='stop'),
)


@HOOKS.register_module()
class FaultPoison(Hook):
    """Multiply the first loss by NaN in chosen iterations, from 0."""

    priority = 'HIGHEST'  # spoils before the guard looks

    def __init__(self, iters: list[int]) -> None:
        self.iters = set(iters)

    def before_train(self, runner: Runner) -> None:
        """Spoil what the model returns."""

        def spoil(module, args, losses):
            if runner.iter in self.iters:
                name = next(name for name in losses if 'loss' in name)
                value = losses[name]
                if isinstance(value, list):
                    losses[name] = [part * float('nan') for part in value]
                else:
                    losses[name] = value * float('nan')
            return losses

        runner.model.register_forward_hook(spoil)


@HOOKS.register_module()
class FaultDeath(Hook):
    """Kill the last rank in an iteration, from 0; not one started again."""

    def __init__(self, number: int) -> None:
        self.number = number

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Die (SIGKILL), as for want of memory."""
        again = int(os.environ.get('TORCHELASTIC_RESTART_COUNT', 0))
        if runner.iter == self.number and get_rank() == 1 and not again:
            print('FaultDeath', flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def _settings(iters: int, interval: int, **changes) -> dict:
    return dict(
        custom_imports=dict(imports=['tools.benchmarks.faults_runs']),
        randomness=dict(seed=0),
        train_cfg=dict(
            type='IterBasedTrainLoop', max_iters=iters, val_interval=10**6
        ),
        optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)
        ],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(
                type='mmfgl.AtomicCheckpointHook',
                by_epoch=False,
                interval=interval,
                max_keep_ckpts=2,
            ),
        ),
        log_processor=dict(by_epoch=False),
        **changes,
    )


def pretraining(
    data: Path, iters: int = 4, interval: int = 2, hooks: tuple = ()
) -> Config:
    """Config of a tiny ReToD on the digit scenes of a folder.

    Args:
        data: The folder.
        iters: Iterations.
        interval: Iterations between checkpoints.
        hooks: Further hooks.
    """
    pipeline = [
        dict(type='mmfgl.LoadUnlabelledImage'),
        dict(
            type='mmfgl.RegionViews',
            proposer=dict(type='mmfgl.GridRegions', cell_sizes=(32, 48)),
            view_size=64,
            num_regions=6,
        ),
        dict(type='mmfgl.PackRegionViews'),
    ]
    return Config(
        dict(
            **_settings(
                iters,
                interval,
                default_scope='mmpretrain',
                data_root=f'{data}/',
                model=tiny_retod_cfg(),
                custom_hooks=[
                    dict(type='mmfgl.TeacherHook', momentum=0.9),
                    dict(type='mmfgl.UnreadableImageHook'),
                    *GUARDS,
                    *hooks,
                ],
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
                dataset=dict(
                    type='mmfgl.UnlabelledImages',
                    data_root=f'{data}/',
                    data_prefix=dict(img_path='unlabelled/'),
                    pipeline=pipeline,
                ),
            ),
        )
    )


def detection(
    data: Path,
    iters: int = 4,
    interval: int = 2,
    hooks: tuple = (),
    classes: tuple[str, ...] = CLASSES,
    num_classes: int = len(CLASSES),
) -> Config:
    """Config of a tiny FGL Faster R-CNN; see :func:`pretraining`.

    ``classes`` are those of the data sets, ``num_classes`` of the detector.
    """
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(128, 96), keep_ratio=True),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackDetInputs'),
    ]

    def loader(split: str, sampler: dict) -> dict:
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=sampler,
            dataset=dict(
                type='CocoDataset',
                data_root=f'{data}/',
                ann_file=f'annotations/{split}.json',
                data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=classes),
                pipeline=pipeline,
                test_mode=split == 'val',
            ),
        )

    val = dict(
        type='mmfgl.DefinedCocoMetric', ann_file=f'{data}/annotations/val.json'
    )
    return Config(
        dict(
            **_settings(
                iters,
                interval,
                default_scope='mmdet',
                data_root=f'{data}/',
                model=tiny_fgl_cfg(num_classes=num_classes),
                custom_hooks=[
                    dict(type='mmfgl.UnreadableImageHook'),
                    *GUARDS[:2],
                    *hooks,
                ],
            ),
            train_dataloader=loader(
                'train', dict(type='InfiniteSampler', shuffle=True)
            ),
            test_dataloader=loader(
                'val', dict(type='DefaultSampler', shuffle=False)
            ),
            test_evaluator=val,
            test_cfg=dict(type='TestLoop'),
        )
    )
