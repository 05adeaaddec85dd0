"""Checks that a checkpoint really loads into the modules it is meant for."""

import re
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap


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
            checkpoint's keys first, for checkpoints of other projects.
    """

    priority = 'LOW'  # after hooks that rearrange the checkpoint

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
        if not runner._resume:
            for key in list(state):
                new = key
                for pattern, replacement in self.revise_keys:
                    new = re.sub(pattern, replacement, new)
                if new != key:
                    state[new] = state.pop(key)
        model = unwrap(runner.model)
        report = LoadReport(
            model.state_dict(), as_loaded(model, state), self.modules
        )
        source = runner._load_from or 'the latest checkpoint'
        runner.logger.info(f'Load report of {source}:\n{report}')
        report.check(source)

    def before_train(self, runner: Runner) -> None:
        """Refuse to train (RuntimeError) if ``load_from`` is not set."""
        if not self._checked:
            raise RuntimeError(
                'this config starts from a checkpoint, but none was given: '
                'pass --cfg-options load_from=CHECKPOINT (modules to load: '
                f'{", ".join(self.modules)})'
            )


def as_loaded(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a state dict, converted as the model does on loading it.

    A vision Transformer, for example, resizes the position embedding of a
    checkpoint to its own grid.
    """
    state = dict(state)
    for name, module in model.named_modules():
        prefix = f'{name}.' if name else ''
        for hook in module._load_state_dict_pre_hooks.values():
            hook(state, prefix, {}, False, [], [], [])
    return state


class LoadReport:
    """What of a checkpoint's state dict fits a model's, counted by module.

    ``modules`` are the dotted names of the declared modules.
    """

    def __init__(
        self,
        model: dict[str, Tensor],
        state: dict[str, Tensor],
        modules: Sequence[str],
    ) -> None:
        self.rows: dict[str, dict[str, list[str]]] = {}
        for name in modules:
            row = dict(loaded=[], missing=[], mismatched=[], unexpected=[])
            for key in (k for k in model if f'{k}.'.startswith(f'{name}.')):
                if key not in state:
                    row['missing'].append(key)
                elif model[key].shape == state[key].shape:
                    row['loaded'].append(key)
                else:
                    shapes = (tuple(s[key].shape) for s in (state, model))
                    text = '{} (checkpoint {}, model {})'
                    row['mismatched'].append(text.format(key, *shapes))
            row['unexpected'] = [
                k for k in state if k.startswith(f'{name}.') and k not in model
            ]
            self.rows[name] = row
        prefixes = tuple(f'{name}.' for name in modules)
        shared = [k for k in model if k in state]
        shared = [k for k in shared if not k.startswith(prefixes)]
        # of modules that were not declared: what loads too, and what cannot
        self.others = [k for k in shared if model[k].shape == state[k].shape]
        self.reshaped = [k for k in shared if k not in self.others]
        self.prefixes = sorted({k.partition('.')[0] for k in state})

    def __str__(self) -> str:
        """A table of counts, one row a module."""
        width = max(len(name) for name in self.rows)
        head = ('loaded', 'missing', 'mismatched', 'unexpected')
        lines = [' ' * width + ''.join(f'{h:>12}' for h in head)]
        loaded = wanted = 0
        for name, row in self.rows.items():
            counts = [len(row[kind]) for kind in head]
            loaded, wanted = loaded + counts[0], wanted + sum(counts[:3])
            cells = ''.join(f'{count:>12}' for count in counts)
            lines.append(f'{name:<{width}}{cells}')
        share = 100 * loaded / max(wanted, 1)
        lines.append(
            f'{share:.1f} % of the declared modules loaded ({loaded} of '
            f'{wanted} tensors); of other modules {len(self.others)} tensors '
            f'load too, {len(self.reshaped)} have another shape and do not'
        )
        return '\n'.join(lines)

    def check(self, source: str) -> None:
        """Raise unless every declared module is loaded completely.

        Raises:
            RuntimeError: Names ``source``, where the checkpoint came from,
                the modules, and their first keys at fault.
        """
        faults = []
        for name, row in self.rows.items():
            if not (row['loaded'] or row['missing'] or row['mismatched']):
                faults.append(f'{name}: the model has no such module')
            for kind in ('missing', 'mismatched'):
                if row[kind]:
                    keys = ', '.join(row[kind][:3])
                    more = len(row[kind]) - 3
                    tail = f' and {more} more' if more > 0 else ''
                    faults.append(f'{name}: {kind}: {keys}{tail}')
        if faults:
            listed = '\n  '.join(faults)
            raise RuntimeError(
                f'{source} does not load into the modules this config '
                f'declares:\n  {listed}\n'
                f'The checkpoint holds: {", ".join(self.prefixes)}. Give '
                'a checkpoint of the same model base, map its keys with '
                'revise_keys of CheckpointChainHook, or declare fewer modules.'
            )
