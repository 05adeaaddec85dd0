"""Checkpoints that survive a kill, a crash or a full disk while saving."""

import os.path as osp
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmfgl.registry import HOOKS
from mmfgl.utils.atomic_files import remove_leftovers, write_atomically

BACKEND = 'mmfgl.atomic'


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, writing atomically."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; an OSError says that the run can be resumed."""
        try:
            write_atomically(obj, filepath)
        except OSError as error:
            raise OSError(
                error.errno,
                f'{error.strerror}: make room or choose another --work-dir, '
                'then go on with --resume',
            ) from error


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` that never endangers what is there.

    The parent removes old checkpoints first, then writes the new one under
    its final name, then ``last_checkpoint``: a kill in between leaves a
    truncated file, or none. Here a checkpoint, and then ``last_checkpoint``,
    appear under their names only when they are complete on the disk, and
    only then are old ones removed, so ``--resume`` finds a complete one
    whenever the process dies. One more checkpoint than ``max_keep_ckpts``
    needs room meanwhile.

    Writing to remote storage (``out_dir``, ``backend_args``) is left to its
    backend, in the same order. A best checkpoint (``save_best``) is written as
    safely, but takes the place of the one before in the parent's order.

    Args: those of :class:`mmengine.hooks.CheckpointHook`.
    """

    def before_train(self, runner: Runner) -> None:
        """Choose the atomic backend and clear leftovers of a killed run."""
        super().before_train(runner)
        local = type(self.file_backend) is LocalBackend
        if not local or self.backend_args or self.file_client_args:
            return
        register_backend(BACKEND, AtomicLocalBackend, force=True)
        self.backend_args = dict(backend=BACKEND)
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                for name in remove_leftovers(folder):
                    runner.logger.warning(
                        f'removed {name}, left by a process that died while '
                        'it was saving'
                    )

    # Overrides CheckpointHook._save_checkpoint_with_step, which removes the
    # outdated checkpoint before it saves, and writes last_checkpoint in place.
    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        """Save, then point ``last_checkpoint`` at it, then clean up."""
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            kept = self.keep_ckpt_ids
            if len(kept) == self.max_keep_ckpts:
                outdated.append(self._path(kept.popleft()))
            kept.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        self.last_ckpt = self._path(step)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            self.filename_tmpl.format(step),
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            path = osp.join(runner.work_dir, 'last_checkpoint')
            write_atomically(str(self.last_ckpt).encode(), path)
            for path in outdated:
                # a sharded checkpoint is a folder
                if self.file_backend.isdir(path):
                    self.file_backend.rmtree(path)
                elif self.file_backend.isfile(path):
                    self.file_backend.remove(path)

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(
            self.out_dir, self.filename_tmpl.format(step)
        )
