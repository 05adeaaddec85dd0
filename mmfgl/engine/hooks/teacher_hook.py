"""Updates ReToD's EMA teacher and chooses what a checkpoint exports."""

import math

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmfgl.engine.hooks.robust.nonfinite_guard_hook import step_was_skipped
from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap


@HOOKS.register_module()
class TeacherHook(Hook):
    """Move the teacher after every optimizer step; export it on saving.

    The momentum (share of the old weights that is kept) rises on a cosine
    from ``momentum`` to ``end_momentum`` over the run, as in BYOL (arXiv
    2006.07733). With gradient accumulation the teacher moves once a step of
    the optimizer, not once a batch.

    A checkpoint holds both branches. The exported one stands under the
    detector's names (``backbone.``, ``neck.``, ``roi_head.``), so that it
    loads there as it is; on resuming the two are put back in their places.

    Args:
        momentum: Momentum at the start.
        end_momentum: Momentum at the end.
        export: ``'teacher'`` or ``'student'``.

    Raises:
        ValueError: An argument is out of range.
    """

    META_KEY = 'mmfgl_export'

    def __init__(
        self,
        momentum: float = 0.996,
        end_momentum: float = 1.0,
        export: str = 'teacher',
    ) -> None:
        if export not in ('teacher', 'student'):
            raise ValueError(
                f"export must be 'teacher' or 'student', got {export!r}"
            )
        if not 0 <= momentum <= end_momentum <= 1:
            raise ValueError(
                'momenta need 0 <= momentum <= end_momentum <= 1, got '
                f'{momentum} and {end_momentum}'
            )
        self.momentum = momentum
        self.end_momentum = end_momentum
        self.export = export

    def before_train(self, runner: Runner) -> None:
        """Tell the model that its teacher is looked after.

        Raises:
            ValueError: The model has no teacher.
        """
        if is_rehearsal(runner):
            return
        model = unwrap(runner.model)
        if model.target_generator is None:
            raise ValueError(
                'TeacherHook has no EMA teacher to move: take it out of '
                "custom_hooks, or set model.target_generator=dict(type='mmfgl"
                ".EMATeacher')"
            )
        model.teacher_is_driven = True

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Update the teacher if the optimizer has just stepped."""
        stepped = runner.optim_wrapper.should_update()
        if not stepped or step_was_skipped(runner) or is_rehearsal(runner):
            return
        momentum = self.momentum_at((runner.iter + 1) / runner.max_iters)
        unwrap(runner.model).update_teacher(momentum)
        runner.message_hub.update_scalar('train/teacher_momentum', momentum)

    def momentum_at(self, progress: float) -> float:
        """Momentum when this share of the run, in [0, 1], is done."""
        cosine = (math.cos(math.pi * min(progress, 1.0)) + 1) / 2
        return self.end_momentum - (self.end_momentum - self.momentum) * cosine

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the exported branch under the detector's names, in place."""
        checkpoint['meta'][self.META_KEY] = self.export
        if self.export == 'teacher':
            _swap_branches(unwrap(runner.model), checkpoint['state_dict'])

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put the branches of a ReToD checkpoint back in their places."""
        if checkpoint.get('meta', {}).get(self.META_KEY) == 'teacher':
            _swap_branches(unwrap(runner.model), checkpoint['state_dict'])


def _swap_branches(model: nn.Module, state: dict) -> None:
    """Swap student and teacher entries of a state dict, in place."""
    for name in model.target_generator.names:
        own = f'{name}.'
        theirs = f'target_generator.{name.rpartition(".")[2]}.'
        for key in [k for k in state if k.startswith(theirs)]:
            student = own + key[len(theirs) :]
            state[student], state[key] = state[key], state[student]
