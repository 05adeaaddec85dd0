"""Tiny configs of faults.py, and how it runs the tools on them."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mmengine.config import Config

from mmfgl.testing import tiny_fgl_cfg, tiny_retod_cfg

TOOLS = Path(__file__).resolve().parents[1]
CLASSES = tuple('0123456789')
GUARDS = (
    dict(type='mmfgl.ExactResumeHook'),
    dict(type='mmfgl.NonFiniteGuardHook'),
    dict(type='mmfgl.CollapseMonitorHook', action='stop'),
)


def _settings(iters: int, interval: int, **changes) -> dict:
    return dict(
        custom_imports=dict(imports=['faults_poison']),
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
    """Config of a tiny ReToD on digit scenes.

    Args:
        data: The data set.
        iters: Iterations.
        interval: Iterations between checkpoints.
        hooks: Further hooks.

    Returns:
        The config.
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
    """Config of a tiny FGL Faster R-CNN on digit scenes.

    Args:
        data: The data set.
        iters: Iterations.
        interval: Iterations between checkpoints.
        hooks: Further hooks.
        classes: Class names of the data sets.
        num_classes: Number of classes of the detector.

    Returns:
        The config.
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

    val = dict(type='CocoMetric', ann_file=f'{data}/annotations/val.json')
    return Config(
        dict(
            **_settings(
                iters,
                interval,
                default_scope='mmdet',
                data_root=f'{data}/',
                model=tiny_fgl_cfg(num_classes=num_classes),
                custom_hooks=[*GUARDS[:2], *hooks],
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


class Bench:
    """Runs tools in child processes, each with its own folder.

    Children are forked: they start at once, with everything imported.

    Args:
        folder: Folder of configs, logs and checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(
        self,
        cfg: Config,
        name: str,
        *args: str,
        tool: str = 'train.py',
        before: Callable[[], None] | None = None,
    ) -> tuple[int, Path]:
        """Start a tool.

        Args:
            cfg: The config.
            name: Name of its work dir.
            *args: Further arguments.
            tool: The tool.
            before: Called in the child first.

        Returns:
            Process id and the file of its output.
        """
        work_dir = self.folder / name
        work_dir.mkdir(exist_ok=True)
        path = self.folder / f'{name}.py'
        cfg.dump(str(path))
        log = work_dir / f'output_{time.monotonic_ns()}.txt'
        pid = os.fork()
        if pid:
            return pid, log
        handle = os.open(log, os.O_CREAT | os.O_WRONLY)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = 1
        try:
            if before is not None:
                before()
            script = str(TOOLS / tool)
            sys.argv = [script, str(path), *map(str, args)]
            sys.argv += ['--work-dir', str(work_dir)]
            runpy.run_path(script, run_name='__main__')
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self, *args, **kwargs) -> tuple[int, str]:
        """Run a tool to its end; arguments as of :meth:`start`.

        Returns:
            Exit code and output.
        """
        pid, log = self.start(*args, **kwargs)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), log.read_text()

    def kill(self, pid: int) -> bool:
        """Kill a child without warning.

        Args:
            pid: Process id.

        Returns:
            Whether it was still running.
        """
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.WIFSIGNALED(status)
