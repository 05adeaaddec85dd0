"""Checks that a checkpoint really loads into the modules it is meant for."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal, trains
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap
from mmfgl.utils.weights import LoadReport, as_loaded, revise


@HOOKS.register_module()
class CheckpointChainHook(Hook):
    """Report, module by module, what a checkpoint loads; stop if too little.

    MMEngine loads checkpoints non-strictly: a wrong prefix loads nothing and
    the run goes on from random weights. This hook compares the checkpoint of
    ``load_from`` with the model before its weights are copied and raises an
    error unless every declared module is loaded completely.

    Args:
        modules: Dotted names of the modules that must load completely, e.g.
            ``['backbone', 'neck', 'roi_head.tokenizer']``.
        revise_keys: Pairs (regular expression, replacement) applied to the
            checkpoint's keys first, for checkpoints of other projects; not
            to one that a run resumes from or that is tested.
    """

    priority = 'LOW'  # after hooks that rearrange the checkpoint
    declares_load = True  # to StrictLoadHook: this one checks

    def __init__(
        self,
        modules: Sequence[str],
        revise_keys: Sequence[tuple[str, str]] = (),
    ) -> None:
        if isinstance(modules, str) or not modules:
            raise ValueError(
                'modules takes a list of module names that must be loaded, '
                f'got {modules!r}'
            )
        self.modules = tuple(modules)
        # MMEngine strips the prefix of distributed wrappers as well
        self.revise_keys = ((r'^module\.', ''), *revise_keys)
        self._checked = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check a checkpoint before it is loaded; revise its keys in place.

        Raises:
            RuntimeError: If a declared module is not loaded completely.
        """
        self._checked = True
        state = checkpoint.get('state_dict', checkpoint)
        as_read = dict(state)
        if trains(runner) and not runner.cfg.get('resume'):
            revised = {
                revise(k, self.revise_keys): v for k, v in state.items()
            }
            state.clear()
            state.update(revised)
        model = unwrap(runner.model)
        report = LoadReport(
            model.state_dict(), as_loaded(model, state), self.modules
        )
        source = runner.cfg.get('load_from') or 'the latest checkpoint'
        runner.logger.info(f'Load report of {source}:\n{report}')
        report.check(source, as_read)

    def before_train(self, runner: Runner) -> None:
        """Refuse to train (RuntimeError) if ``load_from`` is not set."""
        if not self._checked and not is_rehearsal(runner):
            raise RuntimeError(
                'this config starts from a checkpoint, but none was given: '
                'pass --cfg-options load_from=CHECKPOINT (modules to load: '
                f'{", ".join(self.modules)})'
            )
