"""What surrounds a training of tools/train.py, whatever its config."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from mmengine.config import Config
from mmengine.hooks import Hook

from mmfgl.engine.hooks.robust.preemption_hook import (
    PreemptionHook,
    StopSignals,
    ValidationWatch,
)
from mmfgl.engine.hooks.robust.strict_resume_hook import StrictResumeHook
from mmfgl.engine.hooks.start_summary_hook import StartSummaryHook
from mmfgl.engine.hooks.sync_statistics_hook import SyncStatisticsHook
from mmfgl.utils.launch import build_runner
from mmfgl.utils.resume import launch_rank, set_aside, set_resume
from mmfgl.utils.work_dir_lock import WorkDirLock, WorkDirLostError


@contextlib.contextmanager
def guarded_run(
    cfg: Config, resume: str | None
) -> Iterator[Callable[..., None]]:
    """Guard a run: signals, one run a work dir, the file to resume from.

    Args:
        cfg: The config, with ``work_dir``; resuming is set in place.
        resume: See :func:`mmfgl.utils.resume.set_resume`.

    Yields:
        A function that builds the Runner of the config, with further hooks,
        and trains.

    Raises:
        WorkDirInUseError: Another run is at work in the work dir.
        Preempted: A signal has ended the run; see :class:`PreemptionHook`.
    """
    main = launch_rank(cfg) == 0
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(StopSignals())
        lock = stack.enter_context(WorkDirLock(cfg.work_dir)) if main else None
        set_resume(cfg, resume)

        def train(*hooks: Hook) -> None:
            if main:
                set_aside(cfg)
            watch = ValidationWatch()
            hook = PreemptionHook(signals, watch, lock)
            always = StrictResumeHook(), SyncStatisticsHook(), watch
            # the last one may validate as training begins
            always += StartSummaryHook(), hook
            runner = build_runner(cfg, *hooks, *always)
            try:
                runner.train()
            except WorkDirLostError:
                raise
            except Exception:
                hook.rescue(runner)
                raise

        yield train
