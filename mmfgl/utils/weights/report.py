"""What of a checkpoint loads into a model; what to write if it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .fit import Fit, find_fits, needed, tensors_of


def as_loaded(
    model: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
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


def part_of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """State dict of the sub-module of a dotted name ('': the whole)."""
    prefix = f'{name}.' if name else ''
    return {
        key.removeprefix(prefix): value
        for key, value in state.items()
        if key.startswith(prefix)
    }


def some(names: Sequence[str], limit: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = len(names) - limit
    tail = f' and {more} more' if more > 0 else ''
    return ', '.join(names[:limit]) + tail


def advise(
    own: Mapping[str, Tensor],
    checkpoint: Mapping,
    source: str,
    module: str,
    init_cfg: bool = False,
    modules: Sequence[str] = (),
) -> str:
    """What to write so that a checkpoint fills a module.

    Args:
        own: State dict of the module.
        checkpoint: What was read from the file.
        source: Name of the file.
        module: Dotted name of the module in its model.
        init_cfg: It is loaded by the module's ``init_cfg``, not by
            ``load_from``.
        modules: Dotted names of the modules that it is made of, if several.

    Returns:
        One or more lines.
    """
    fits = find_fits(own, checkpoint)
    if not fits:
        theirs = sorted(tensors_of(checkpoint)) or sorted(map(str, checkpoint))
        return (
            f'its keys look like {some(theirs)};\n'
            f'  those of {module or "the model"} like {some(sorted(own))}:\n'
            '  give a checkpoint of the same network, or load it by load_from '
            'and map its keys by revise_keys=[(pattern, replacement)] of '
            'mmfgl.CheckpointChainHook'
        )
    best = fits[0]
    lines = []
    if best.inside:
        lines.append(
            f'its weights are under {best.inside!r}, where MMEngine does not '
            'look; write them to another file first:\n  python -c "import '
            'torch; from mmfgl.utils.weights import safe_load; torch.save('
            f"safe_load('{source}')['{best.inside}'], 'NEW.pth')\""
        )
    same = [
        fit
        for fit in fits
        if (fit.inside, fit.family, fit.add, fit.reshaped)
        == (best.inside, best.family, best.add, best.reshaped)
    ]
    if best.family:
        lines.append(f'its names are those of {best.family}')
    lines.append(_what_to_write(same, source, module, init_cfg, modules))
    if best.reshaped:
        lines.append(
            f'{best.reshaped} of its tensors still have another shape: it is '
            'of a network of another size, or number of classes'
        )
    return '\n  '.join(lines)


def _what_to_write(
    fits: Sequence[Fit],
    source: str,
    module: str,
    init_cfg: bool,
    modules: Sequence[str],
) -> str:
    """The line of the config that makes one of equal changes of keys."""
    best = fits[0]
    if best.inside:
        source = 'NEW.pth'
    if init_cfg and not best.family and not best.add:
        if not best.strip:
            return 'leave `prefix` out of this init_cfg'
        listed = ' or '.join(f'prefix={fit.strip!r}' for fit in fits[:3])
        return f'write {listed} in this init_cfg'
    names = list(modules) or [module]
    hook = (
        f"dict(type='mmfgl.CheckpointChainHook', modules={names}, "
        f'revise_keys={best.revise_keys(module)})'
    )
    if init_cfg:
        return (
            f'an init_cfg can not rename keys: write init_cfg=None, '
            f"load_from='{source}', and among custom_hooks {hook}"
        )
    others = [f'{fit.strip!r}' for fit in fits[1:3] if best.strip]
    also = f' (or {", ".join(others)} in its place)' if others else ''
    return f'write {hook} among custom_hooks{also}'


class LoadReport:
    """What of a checkpoint's state dict fits a model's, counted by module.

    Args:
        model: State dict of the model.
        state: That of the checkpoint, see :func:`as_loaded`.
        modules: Dotted names of the modules that are meant to load.
    """

    def __init__(
        self,
        model: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        modules: Sequence[str],
    ) -> None:
        self.model = model
        self.rows: dict[str, dict[str, list[str]]] = {}
        for name in modules:
            row = dict(loaded=[], missing=[], mismatched=[], unexpected=[])
            own = {
                k: v
                for k, v in model.items()
                if f'{k}.'.startswith(f'{name}.')
            }
            wanted = needed(own)
            for key in own:
                if key not in state:
                    if key in wanted:
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

    @property
    def complete(self) -> list[str]:
        """Names of the modules that load completely."""
        return [
            name
            for name, row in self.rows.items()
            if row['loaded'] and not row['missing'] and not row['mismatched']
        ]

    def check(self, source: str, checkpoint: Mapping) -> None:
        """Raise unless every declared module is loaded completely.

        Args:
            source: Where the checkpoint came from.
            checkpoint: As it was read, for advice on its keys.

        Raises:
            RuntimeError: Names the source, the modules, their first keys at
                fault, and what to write.
        """
        faults = []
        for name, row in self.rows.items():
            if not (row['loaded'] or row['missing'] or row['mismatched']):
                faults.append(f'{name}: the model has no such module')
            faults += row_faults(name, row)
        if faults:
            listed = '\n  '.join(faults)
            advice = self.advice(source, checkpoint)
            raise RuntimeError(
                f'{source} does not load into the modules this config '
                f'declares:\n  {listed}\n'
                f'The checkpoint holds: {", ".join(self.prefixes)}.{advice}\n'
                f'{"Or give" if advice else "Give"} a checkpoint of the same '
                'model base, or declare fewer modules.'
            )

    def advice(self, source: str, checkpoint: Mapping) -> str:
        """What to write for the modules that miss keys.

        It is told once, if one change of keys mends them all. Where other
        modules load, those that no change mends are not spoken of.
        """
        names = [name for name, row in self.rows.items() if row['missing']]
        own = {name: part_of(self.model, name) for name in names}
        if len(names) > 1:
            together = {
                f'{name}.{key}': value
                for name, part in own.items()
                for key, value in part.items()
            }
            if find_fits(together, checkpoint):
                names = list(self.rows)
                text = advise(together, checkpoint, source, '', modules=names)
                return f'\n{text}'
        return ''.join(
            f'\n{name}: {advise(part, checkpoint, source, name)}'
            for name, part in own.items()
            if part and (not self.complete or find_fits(part, checkpoint))
        )


def row_faults(name: str, row: Mapping[str, list[str]]) -> list[str]:
    """Lines on what a module misses."""
    return [
        f'{name}: {kind}: {some(row[kind])}'
        for kind in ('missing', 'mismatched')
        if row[kind]
    ]


def check_finite(
    model: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> None:
    """Refuse weights that are NaN or infinite.

    Args:
        model: State dict of the model; what it fills itself with infinity is
            let pass.
        state: That of the checkpoint.
        source: Where it came from.

    Raises:
        ValueError: Names the first tensors.
    """
    bad = [
        key
        for key, value in state.items()
        if key in model
        and isinstance(value, Tensor)
        and value.is_floating_point()
        and not torch.isfinite(value).all()
        and torch.isfinite(model[key]).all()
    ]
    if bad:
        raise ValueError(
            f'{source}: {len(bad)} of {len(state)} tensors hold NaN or '
            f'infinite values, as {some(bad)}: its training had broken down. '
            'Take an older checkpoint, or train again.'
        )
