"""Says in the checkpoint which region teacher the run learned from."""

import os.path as osp
from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap


@HOOKS.register_module()
class RegionTeacherHook(Hook):
    """Check the region file of ``RegionEmbeddingTask``; keep its teacher.

    A file without embeddings, or with embeddings of another width, stops the
    run before its first iteration; so does a proposer of the views that reads
    another file, whose regions would get the embeddings of others. Name, hash
    of the weights, licence and preprocessing of the teacher go into the
    checkpoint's ``meta['region_teacher']``: who passes the weights on has to
    know.
    """

    def before_train(self, runner: Runner) -> None:
        """Open the region file.

        Raises:
            FileNotFoundError: If it does not exist.
            KeyError: If the model has no such task.
            ValueError: If it has no embeddings, or others than the task's, or
                a proposer reads another file.
        """
        if is_rehearsal(runner):
            return
        task = _task_of(runner)
        for path in _region_files(runner.cfg.get('train_dataloader')):
            if osp.realpath(path) != osp.realpath(task.region_file):
                raise ValueError(
                    f'a proposer of the views reads {path!r}, but '
                    f'RegionEmbeddingTask takes the embeddings of '
                    f'{task.region_file!r}: give both the same file'
                )
        meta = task.open_file().meta['teacher']
        runner.logger.info(
            f'Region teacher: {meta["model"]}, {meta["weights"]} (SHA-256 '
            f'{meta["sha256"][:8]}, licence {meta["licence"]})'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the teacher to the meta of a checkpoint, in place."""
        meta = _task_of(runner).open_file().meta['teacher']
        checkpoint['meta']['region_teacher'] = meta


def _region_files(node: Any) -> Iterator[str]:
    """Region files of the proposers in a config."""
    if isinstance(node, dict):
        if str(node.get('type')).endswith('FileRegions'):
            yield node['ann_file']
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _region_files(child)


def _task_of(runner: Runner):  # noqa: ANN202  (hooks import no models)
    """The task of the model that learns from a region teacher."""
    tasks = getattr(unwrap(runner.model), 'tasks', {})
    if 'embed' not in tasks:
        raise KeyError(
            'RegionTeacherHook is for ReToD with mmfgl.RegionEmbeddingTask: '
            'list the task, or leave the hook out'
        )
    return tasks['embed']
