"""A stop that loses nothing: signals, errors, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from types import FrameType

import torch
import torch.distributed as torch_dist
from mmengine.dist import (
    barrier,
    get_backend,
    get_world_size,
    is_main_process,
)
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmfgl.engine.hooks.robust.atomic_checkpoint_hook import (
    AtomicCheckpointHook,
    NothingSavedError,
)
from mmfgl.engine.hooks.robust.exact_resume_hook import IN_EPOCH
from mmfgl.engine.hooks.robust.nonfinite_guard_hook import NonFiniteGuardHook
from mmfgl.utils.work_dir_lock import WorkDirLock

REQUEUE = 75  # EX_TEMPFAIL of sysexits.h: 'try again later'
_VALIDATED = 'mmfgl_validated_iter'


class Preempted(SystemExit):
    """Training was asked to stop and has saved what it has reached.

    The exit status is :data:`REQUEUE`; 0 under torchrun, which would else
    report a failure and start the processes again (``dist_train.sh`` then
    ends with :data:`REQUEUE`).
    """

    def __init__(self) -> None:
        under_torchrun = 'TORCHELASTIC_RUN_ID' in os.environ
        super().__init__(0 if under_torchrun else REQUEUE)


class StopSignals:
    """Notes SIGTERM, SIGUSR1 and SIGINT, as a context manager.

    A second SIGINT, two seconds after the first or later, stops at once. Data
    loading workers, forked, go on for the main process, which ends them.
    """

    NAMES = ('SIGTERM', 'SIGUSR1', 'SIGINT')

    def __init__(self) -> None:
        self.number = 0  # of the first signal

    def __enter__(self) -> StopSignals:
        self._pid, self._before = os.getpid(), {}
        for name in self.NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGUSR1
            if number is not None:
                # outside the main thread, signals go on as before
                with contextlib.suppress(ValueError):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # the second SIGTERM ends a worker
            end = number == signal.SIGTERM
            signal.signal(number, signal.SIG_DFL if end else signal.SIG_IGN)
            return
        now = time.monotonic()
        if self.number == 0:
            self.number, self._since = number, now
            name = signal.Signals(number).name
            text = f'{name}: training stops after this step, and saves\n'
            with contextlib.suppress(OSError):  # a pipe or terminal is gone
                os.write(2, text.encode())
        elif number == signal.SIGINT and now - self._since > 2:
            raise KeyboardInterrupt


class ValidationWatch(Hook):
    """Follows validation: it runs with an average's weights, if there is one.

    Registered after the hooks of the config, so that an ``EMAHook`` has
    exchanged the weights when this one notes it, both ways.
    """

    def __init__(self) -> None:
        self.exchanged = False

    def before_val_epoch(self, runner: Runner) -> None:
        """The weights are those to validate."""
        self.exchanged = True

    def after_val_epoch(self, runner: Runner, *args, **kwargs) -> None:
        """The weights are those in training; what follows may save them."""
        self.exchanged = False
        runner.message_hub.update_info(_VALIDATED, runner.iter)

    def exchange_back(self, runner: Runner) -> None:
        """Leave a validation that is cut short."""
        if self.exchanged:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)
        self.exchanged = False


class PreemptionHook(Hook):
    """Save and stop when asked to; save when an error ends training.

    A signal to any rank stops all of them: their flags are reduced, on the
    CPU, after each optimizer step and between batches of validation. Then
    :class:`AtomicCheckpointHook` saves, and :class:`Preempted` ends the run.
    ``--resume`` goes on as if nothing had been; a validation that was cut
    short, or due, comes first.

    ``tools/train.py`` registers it in every run, whatever the config says.

    Args:
        signals: The flag.
        watch: Registered beside it.
        lock: The lock of the work dir, on the main process.
    """

    priority = 'LOWEST'  # after whatever else belongs to a step

    def __init__(
        self,
        signals: StopSignals,
        watch: ValidationWatch,
        lock: WorkDirLock | None = None,
    ) -> None:
        self.signals = signals
        self.watch = watch
        self.lock = lock
        self.validating = False
        self.start: int | None = None
        self.in_epoch = 0

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Read whether an epoch is to be completed."""
        self.in_epoch = checkpoint.get('meta', {}).get(IN_EPOCH, 0)

    def before_train(self, runner: Runner) -> None:
        """Prepare; make up for a validation that a stop has prevented."""
        self.group = None
        if get_world_size() > 1 and get_backend() != 'gloo':
            self.group = torch_dist.new_group(backend='gloo')
        if self._asked():
            raise Preempted  # there is nothing to save yet
        self.start = runner.iter
        if self._validation_due(runner):
            runner.logger.info('validating where the run was stopped')
            runner.val_loop.run()

    def _validation_due(self, runner: Runner) -> bool:
        loop = runner.train_loop
        hub = runner.message_hub.runtime_info
        if runner.val_loop is None or hub.get(_VALIDATED) == runner.iter:
            return False
        if hasattr(loop, 'dataloader_iterator'):  # counts iterations
            done, last = runner.iter, runner.max_iters
        elif self.in_epoch:
            return False
        else:
            done, last = runner.epoch, runner.max_epochs
        at_interval = done % loop.val_interval == 0 or done == last
        return done > 0 and done >= loop.val_begin and at_interval

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Stop after a step, if asked to."""
        if self.lock is not None:
            self.lock.check()
        if step_is_complete(runner) and self._asked():
            self._stop(runner, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Find out how many batches all ranks have."""
        self.validating = True
        self.shared_batches = len(runner.val_dataloader)
        if get_world_size() > 1:
            count = torch.tensor([self.shared_batches])
            torch_dist.all_reduce(
                count, torch_dist.ReduceOp.MIN, group=self.group
            )
            self.shared_batches = int(count)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, *args, **kwargs
    ) -> None:
        """Stop between batches of validation, if asked to."""
        if batch_idx < self.shared_batches and self._asked():
            self._stop(runner, runner.iter)

    def after_val_epoch(self, runner: Runner, *args, **kwargs) -> None:
        """Note that all that belongs to a validation is done."""
        self.validating = False

    def _asked(self) -> int:
        """The signal that any rank got, or 0; a collective call."""
        if get_world_size() == 1:
            return self.signals.number
        flag = torch.tensor([self.signals.number])
        torch_dist.all_reduce(flag, torch_dist.ReduceOp.MAX, group=self.group)
        return int(flag)

    def _stop(self, runner: Runner, done: int) -> None:
        end: SystemExit = Preempted()
        try:
            saved = self._save(runner, done)
            saved += f'; go on with --resume (exit status {REQUEUE})'
        except NothingSavedError as error:
            # again from an older checkpoint, it would come here again
            end, saved = SystemExit(1), f'nothing saved: {error}'
        barrier()  # a launcher ends all when one ends, and rank 0 saves
        runner.logger.warning(
            f'stopped as asked after iteration {done}, {saved}'
        )
        raise end

    def _save(
        self, runner: Runner, done: int, epoch: int | None = None
    ) -> str:
        """Save by the checkpoint hook; say what was saved.

        Raises:
            NothingSavedError: There is no such hook, or it cannot.
        """
        self.watch.exchange_back(runner)
        for hook in runner.hooks:
            if isinstance(hook, AtomicCheckpointHook):
                return hook.save_now(runner, done, epoch)
        raise NothingSavedError(
            'the config has no AtomicCheckpointHook; set '
            "default_hooks.checkpoint.type='mmfgl.AtomicCheckpointHook'"
        )

    def rescue(self, runner: Runner) -> None:
        """Save, on the main process, what an error would otherwise lose.

        A step that broke is not in it: what it did to buffers is taken back,
        where there is a :class:`NonFiniteGuardHook`, and the resumed run is
        equal to the bit. It need not be if a hook broke after the optimizer's
        step, which is then kept, or if gradients were being accumulated,
        which are lost. Of an epoch that is over only what its end calls for
        is missing. Weights that are not finite are not saved.
        """
        if self.start is None or not is_main_process():
            return
        done, wrapper = runner.iter, runner.optim_wrapper
        # OptimWrapper.inner_count: one ahead if the step itself succeeded,
        # and a hook failed after it
        if (
            not self.validating
            and isinstance(wrapper, OptimWrapper)
            and wrapper.inner_count == done + 1
        ):
            done += 1
            _catch_up(runner, done, by_epoch=False)
        else:
            for hook in runner.hooks:
                if isinstance(hook, NonFiniteGuardHook):
                    hook.take_back()
        if done == self.start:
            return
        loop, epoch = runner.train_loop, None
        if not hasattr(loop, 'dataloader_iterator') and not self.validating:
            epochs, rest = divmod(done, len(loop.dataloader))
            if rest == 0 and epochs == runner.epoch + 1:
                epoch = epochs
                _catch_up(runner, epoch, by_epoch=True)
        try:
            saved = self._save(runner, done, epoch)
        except Exception as error:
            saved = f'nothing saved: {error}'
        runner.logger.error(f'an error ended training; {saved}')


def _catch_up(runner: Runner, done: int, by_epoch: bool) -> None:
    """Step schedulers that an error has kept from a step."""
    for scheduler in runner.param_schedulers or []:
        # _ParamScheduler._global_step: its own count of steps
        if scheduler.by_epoch == by_epoch and scheduler._global_step < done:
            scheduler.step()


def step_is_complete(runner: Runner) -> bool:
    """Whether no gradient waits to be accumulated further."""
    wrapper = runner.optim_wrapper
    return not isinstance(wrapper, OptimWrapper) or wrapper.should_update()
