"""Says in the checkpoint which region teacher the run learned from."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap
from mmfgl.utils.audit.uses import parts_of
from mmfgl.utils.resume import same_file


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
        for part in parts_of(runner.cfg.get('train_dataloader')):
            if not str(part['type']).endswith('FileRegions'):
                continue
            path = part['ann_file']
            if not same_file(path, task.region_file):
                raise ValueError(
                    f'a proposer of the views reads {path!r}, but '
                    'RegionEmbeddingTask takes the embeddings of '
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


def _task_of(runner: Runner):  # noqa: ANN202  (hooks import no models)
    """The task of the model that learns from a region teacher."""
    tasks = getattr(unwrap(runner.model), 'tasks', {})
    if 'embed' not in tasks:
        raise KeyError(
            'RegionTeacherHook is for ReToD with mmfgl.RegionEmbeddingTask: '
            'list the task, or leave the hook out'
        )
    return tasks['embed']
