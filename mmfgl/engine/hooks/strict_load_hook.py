"""Refuses weights that fill less than a config declares."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmfgl.engine.hooks.robust.rehearsal import trains
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap
from mmfgl.utils.weights import (
    LoadReport,
    as_loaded,
    check_finite,
    init_fault,
    loads_itself,
    needed,
    pretrained_modules,
    read_checkpoint,
    row_faults,
    tensors_of,
    try_loading,
)


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuse to train from weights that fill less than a config declares.

    MMEngine loads what fits and warns about the rest. Checked are, before
    anything is loaded, every ``init_cfg`` of type ``Pretrained`` with a local
    file, whichever module has it; and ``load_from``, where no
    ``CheckpointChainHook`` says which modules it is for. Classifiers of
    another number of classes pass, with MMEngine's warning.
    """

    priority = 'VERY_LOW'  # after hooks that rearrange the checkpoint

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}  # of the tensors that load

    def before_run(self, runner: Runner) -> None:
        """Check what the modules start from (RuntimeError)."""
        if not trains(runner):  # MMEngine reads no init_cfg then
            return
        contents: dict[str, dict] = {}
        for name, module, init_cfg in pretrained_modules(unwrap(runner.model)):
            path = init_cfg['checkpoint']
            if '://' in path:  # is downloaded only when it is loaded
                continue
            if path not in contents:
                contents.clear()  # one file in memory at a time
                contents[path] = read_checkpoint(path)
            fault = init_fault(name, module, init_cfg, contents[path])
            filled = module.state_dict()
            self._note(module, name, filled, path)
            if loads_itself(module):
                kind = type(module).__name__
                fault = fault or (
                    f'{path} does not fill the {name} whose init_cfg names '
                    f'it: {kind} reads it in its own way, mostly under '
                    '`backbone.`'
                )
                try_loading(module, fault)
            elif fault:
                raise RuntimeError(fault)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check ``load_from``.

        Raises:
            RuntimeError: It fills too little.
            ValueError: It holds values that are not finite.
        """
        model = unwrap(runner.model)
        source = runner.cfg.get('load_from') or 'the latest checkpoint'
        own = model.state_dict()
        state = {
            key.removeprefix('module.'): value
            for key, value in tensors_of(checkpoint).items()
        }
        check_finite(own, state, source)
        declared = any(
            getattr(h, 'declares_load', False) for h in runner.hooks
        )
        resume = runner.cfg.get('resume')
        if not resume:
            self._note(model, '', as_loaded(model, state), source)
        if resume or declared:
            return
        names = list(OrderedDict.fromkeys(k.partition('.')[0] for k in own))
        report = LoadReport(own, as_loaded(model, state), names)
        faults = []
        for name, row in report.rows.items():
            row = dict(row, mismatched=_not_classes(row['mismatched']))
            faults += row_faults(name, row)
        if faults:
            listed = '\n  '.join(faults)
            modules = report.complete
            part = (
                '\nIf the complete ones are all it is for, add dict(type='
                f"'mmfgl.CheckpointChainHook', modules={modules}) to "
                'custom_hooks.'
            )
            raise RuntimeError(
                f'load_from={source} fills only a part of the model:\n  '
                f'{listed}\ncomplete: {", ".join(modules) or "no module"}.'
                f'{part if modules else ""}{report.advice(source, checkpoint)}'
            )
        runner.logger.info(f'Load report of {source}:\n{report}')

    def _note(
        self,
        module: nn.Module,
        name: str,
        state: Mapping[str, Any],
        source: str,
    ) -> None:
        """Remember what of a module a file fills."""
        for key, value in module.state_dict().items():
            if key in state and state[key].shape == value.shape:
                self._sources[f'{name}.{key}' if name else key] = source

    def origins(self, model: nn.Module) -> list[str]:
        """A line for each source of weights: how much of which module.

        What is no file's is random, constant, or a copy of another module.
        """
        counts: dict[str, Counter] = {}
        total = Counter()
        for key in needed(model.state_dict()):
            name = key.partition('.')[0]
            total[name] += 1
            source = self._sources.get(key, '')
            counts.setdefault(source, Counter())[name] += 1
        lines = []
        for source in sorted(counts, key=lambda source: source == ''):
            parts = [
                name if n == total[name] else f'{name} ({n} of {total[name]})'
                for name, n in counts[source].items()
            ]
            lines.append(f'{source or "no file"}: {", ".join(parts)}')
        return lines


def _not_classes(mismatched: list[str]) -> list[str]:
    """Tensors whose shapes differ in more than the number of classes.

    An RPN has no classes, nor has a region Transformer.
    """

    def rest(shape: str) -> str:
        return shape.partition(',')[2].strip()

    pattern = r'.* \(checkpoint \((.*)\), model \((.*)\)\)'
    shapes = [re.fullmatch(pattern, text).groups() for text in mismatched]
    return [
        text
        for text, (old, new) in zip(mismatched, shapes, strict=True)
        if rest(old) != rest(new)
        or re.match(r'(\S+\.)?(rpn_head|transformer)\.', text)
    ]
