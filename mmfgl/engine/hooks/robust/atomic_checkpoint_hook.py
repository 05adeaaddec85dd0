"""Checkpoints that survive a kill, a crash or a full disk while saving."""

import os.path as osp
import time
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap
from mmfgl.utils.atomic_files import remove_leftovers, write_atomically
from mmfgl.utils.resume import POINTER, same_file

BACKEND = 'mmfgl.atomic'
_EXTRA = 'mmfgl_extra_checkpoint'


class NothingSavedError(RuntimeError):
    """A run is in no state that is worth a checkpoint, or has no way."""


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

    Beside its schedule it saves by the clock, and when :class:`PreemptionHook`
    asks for it. Such an extra checkpoint, ``iter_N.pth``, lasts until the
    next one of either kind.

    Writing to remote storage (``out_dir``, ``backend_args``) is left to its
    backend, in the same order. A best checkpoint (``save_best``) is written as
    safely, but takes the place of the one before in the parent's order.

    Args:
        interval_minutes: Save when the last checkpoint is so old, too; only
            after complete optimizer steps. ``None`` for never.
        **kwargs: Those of :class:`mmengine.hooks.CheckpointHook`.
    """

    def __init__(self, interval_minutes: float | None = None, **kwargs):
        super().__init__(**kwargs)
        if interval_minutes is not None and interval_minutes <= 0:
            raise ValueError(
                f'interval_minutes must be > 0, got {interval_minutes}'
            )
        self.interval_minutes = interval_minutes
        self._saved_iter: int | None = None
        self.is_atomic = False  # whether files go through the atomic backend

    def before_train(self, runner: Runner) -> None:
        """Choose the atomic backend and clear leftovers of a killed run."""
        super().before_train(runner)
        self._saved_at = time.monotonic()
        # Runner._resume and ._load_from: what it went on from. One of the
        # schedule must not become an extra one.
        own = self._path(self._extra_name(runner.iter))
        if runner._resume and same_file(runner._load_from or '', own):
            self._saved_iter, self.last_ckpt = runner.iter, own
        local = type(self.file_backend) is LocalBackend
        if not local or self.backend_args or self.file_client_args:
            return
        register_backend(BACKEND, AtomicLocalBackend, force=True)
        self.backend_args, self.is_atomic = dict(backend=BACKEND), True
        if is_main_process():
            for folder in {self.out_dir, runner.work_dir}:
                for name in remove_leftovers(folder):
                    runner.logger.warning(
                        f'removed {name}, left by a process that died while '
                        'it was saving'
                    )

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Save by the schedule, else by the clock of the main process.

        The others need not know: saving is not their business.
        """
        super().after_train_iter(runner, *args, **kwargs)
        if self.interval_minutes is None or not is_main_process():
            return
        minutes = (time.monotonic() - self._saved_at) / 60
        wrapper = runner.optim_wrapper
        complete = getattr(wrapper, 'should_update', lambda: True)()
        if minutes >= self.interval_minutes and complete:
            try:
                saved = self.save_now(runner, runner.iter + 1)
            except NothingSavedError as error:
                saved = f'nothing saved: {error}'
            runner.logger.info(f'after {minutes:.0f} minutes: {saved}')

    def save_now(
        self, runner: Runner, done: int, epoch: int | None = None
    ) -> str:
        """Save a run that has done so many iterations; say what was saved.

        ``epoch`` is the number of epochs done, if it is not the runner's.

        Raises:
            NothingSavedError: Weights are not finite.
        """
        self._saved_at = time.monotonic()  # not at every step, if this fails
        if self._saved_iter == done:
            return f'saved as {osp.basename(self.last_ckpt)}'
        values = [p.detach() for p in unwrap(runner.model).parameters()]
        norms = torch._foreach_norm(values, float('inf'))
        if not torch.stack([n.float() for n in norms]).isfinite().all():
            raise NothingSavedError('weights are not finite')
        name = self._extra_name(done)
        before = runner.message_hub.runtime_info.get(_EXTRA)
        runner.message_hub.update_info(_EXTRA, name)
        epoch = runner.epoch if epoch is None else epoch
        meta = dict(epoch=epoch, iter=done)
        self._write(runner, name, meta, [before] if before else [])
        return f'saved as {name}'

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
                outdated.append(self.filename_tmpl.format(kept.popleft()))
            kept.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self._path(name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        extra = runner.message_hub.runtime_info.get(_EXTRA)
        if extra:
            outdated.append(extra)
            runner.message_hub.update_info(_EXTRA, '')
        self._write(runner, name, meta, outdated)
        self._saved_at = time.monotonic()
        # at the end of an epoch, its last iteration is counted already
        self._saved_iter = meta['iter']

    def _write(
        self, runner: Runner, name: str, meta: dict, outdated: list[str]
    ) -> None:
        """Save under a name, point to it, then remove what is outdated."""
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        pointer = osp.join(runner.work_dir, POINTER)
        write_atomically(str(self._path(name)).encode(), pointer)
        for path in (self._path(n) for n in outdated if n != name):
            # a sharded checkpoint is a folder
            if self.file_backend.isdir(path):
                self.file_backend.rmtree(path)
            elif self.file_backend.isfile(path):
                self.file_backend.remove(path)

    def _extra_name(self, done: int) -> str:
        if self.by_epoch:
            return f'iter_{done}.pth'
        return self.filename_tmpl.format(done)

    def _path(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)


def atomic_backend(runner: Runner) -> dict | None:
    """``backend_args`` to save a further file of a run as safely.

    ``None``, MMEngine's own way, where no hook has chosen the atomic backend.
    """
    for hook in runner.hooks:
        if isinstance(hook, AtomicCheckpointHook):
            return dict(backend=BACKEND) if hook.is_atomic else None
    return None
