"""Checks of ``init_cfg=dict(type='Pretrained', checkpoint=...)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mmengine.model import BaseModule
from mmengine.model.weight_init import PretrainedInit
from torch import nn

from .fit import needed, tensors_of
from .report import LoadReport, advise, as_loaded, check_finite, some


def is_pretrained(init_cfg: Mapping) -> bool:
    """Whether an ``init_cfg`` names a checkpoint."""
    kind = init_cfg.get('type')
    return kind in ('Pretrained', PretrainedInit)


def pretrained_modules(
    module: nn.Module, name: str = ''
) -> Iterator[tuple[str, nn.Module, Mapping]]:
    """Modules whose last word on their weights is a checkpoint."""
    init_cfgs = getattr(module, 'init_cfg', None) or []
    if isinstance(init_cfgs, dict):
        init_cfgs = [init_cfgs]
    chosen = [c for c in init_cfgs if is_pretrained(c)]
    if chosen:
        yield name, module, chosen[-1]
        return
    for key, child in module.named_children():
        yield from pretrained_modules(child, f'{name}.{key}' if name else key)


def loads_itself(module: nn.Module) -> bool:
    """Whether its class reads the checkpoint without MMEngine's initialiser.

    mmdet's Swin and PVT do, and rename keys on the way.
    """
    for kind in type(module).__mro__:
        if kind is BaseModule:
            return False
        method = vars(kind).get('init_weights')
        if method and 'super' not in method.__code__.co_names:
            return True
    return False


def try_loading(module: nn.Module, fault: str) -> None:
    """Let a backbone load in its own way; raise the fault if it fails to."""
    missing: list[str] = []
    handle = module.register_load_state_dict_post_hook(
        lambda _, incompatible: missing.extend(incompatible.missing_keys)
    )
    try:
        module.init_weights()
    except (RuntimeError, LookupError, TypeError) as error:
        raise RuntimeError(f'{fault}\n({error!r})') from error
    finally:
        handle.remove()
    if needed(dict.fromkeys(missing)):
        raise RuntimeError(fault)


def init_fault(
    name: str, module: nn.Module, init_cfg: Mapping, checkpoint: dict
) -> str:
    """What an ``init_cfg`` does not fill; '' if it fills all."""
    prefix, path = init_cfg.get('prefix'), init_cfg['checkpoint']
    state = tensors_of(checkpoint)
    if prefix is None:
        strip = 'module.'
        state = {key.removeprefix(strip): v for key, v in state.items()}
    else:
        strip = prefix if prefix.endswith('.') else f'{prefix}.'
        state = {
            key.removeprefix(strip): value
            for key, value in state.items()
            if key.startswith(strip)
        }
    own = module.state_dict()
    check_finite(own, state, path)
    report = LoadReport(own, as_loaded(module, state), list(own))
    missing, mismatched = [], []
    for row in report.rows.values():
        missing += row['missing']
        mismatched += row['mismatched']
    if not missing and not mismatched:
        return ''
    lines = [
        f'{len(keys)} tensors are {kind}: {some(keys)}'
        for kind, keys in (
            ('missing', missing),
            ('of another shape', mismatched),
        )
        if keys
    ]
    if missing:
        lines.append(advise(own, checkpoint, path, name, init_cfg=True))
    written = '' if prefix is None else f' with prefix={prefix!r}'
    listed = '\n  '.join(lines)
    return (
        f'{path}{written} does not fill the {name or "model"} whose init_cfg '
        f'names it:\n  {listed}'
    )
