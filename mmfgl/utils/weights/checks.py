"""Checks of weights before a run uses them."""

from __future__ import annotations

import os.path as osp
import re
import textwrap
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner, load_state_dict
from torch import nn

from mmfgl.utils.model import unwrap

from .fit import find_fits, needed, tensors_of
from .init_cfg import (
    init_fault,
    is_pretrained,
    loads_itself,
    pretrained_modules,
    try_loading,
)
from .kinds import CheckpointError, check_checkpoint
from .report import (
    LoadReport,
    as_loaded,
    check_finite,
    row_faults,
)


def check_weights(cfg: Config) -> None:
    """Make sure that the local files training starts from are whole.

    These are ``load_from`` and every ``init_cfg`` of type ``Pretrained``, and
    what else a model of timm or mmdet names as a checkpoint.

    Raises:
        FileNotFoundError: A file does not exist; says what to do.
        CheckpointError: A file is no checkpoint, incomplete, or not safe to
            unpickle.
    """
    hint = (
        'run the pretraining config first, or name another one: --cfg-options '
        'load_from=CHECKPOINT'
    )
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from, 'checkpoint to start from', hint)
    for key, path in _checkpoints(cfg.model):
        hint = weights_hint(path)
        if key == 'init_cfg':
            check_checkpoint(path, 'file of weights of an init_cfg', hint)
        else:
            check_checkpoint(path, f'file of weights of `{key}`', hint)
            read(path)  # timm would unpickle it while it builds


def weights_hint(path: str) -> str:
    """How to get a file of weights, '' if unknown."""
    if 'dinov2_vit-small' in path:
        return 'how to get it: configs/_base_/models/dinov2_teacher.py'
    if not (found := re.search(r'efficientnet-lite([012])', path)):
        return ''
    tool = 'tools/model_converters/efficientnet_lite.py'
    return f'write it: python {tool} --variant {found[1]} --out {path}'


def _checkpoints(node: Any) -> Iterator[tuple[str, str]]:
    """(key, path) of what a model's config starts from."""
    if isinstance(node, dict):
        path = node.get('checkpoint')
        if is_pretrained(node) and path:
            yield 'init_cfg', path
        for key in ('checkpoint_path', 'pretrained', 'teacher_ckpt'):
            path = node.get(key)
            if isinstance(path, str) and osp.isfile(path):
                yield key, path
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _checkpoints(child)


def read(path: str) -> dict:
    """What MMEngine will read from a file, see :func:`use_safe_loading`.

    Raises:
        CheckpointError: It is refused, or holds no dict.
    """
    content = CheckpointLoader.load_checkpoint(path, 'cpu', logger='silent')
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds no state dict')
    return content


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
        contents: dict[str, dict] = {}
        for name, module, init_cfg in pretrained_modules(unwrap(runner.model)):
            path = init_cfg['checkpoint']
            if '://' in path:  # is downloaded only when it is loaded
                continue
            if path not in contents:
                contents.clear()  # one file in memory at a time
                contents[path] = read(path)
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
                f'{report.advice(source, checkpoint)}{part if modules else ""}'
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
    """Tensors whose shapes differ in more than the first dimension."""

    def rest(shape: str) -> str:
        return shape.partition(',')[2].strip()

    pattern = r'.* \(checkpoint \((.*)\), model \((.*)\)\)'
    shapes = [re.fullmatch(pattern, text).groups() for text in mismatched]
    return [
        text
        for text, (old, new) in zip(mismatched, shapes, strict=True)
        if rest(old) != rest(new)
    ]


class StrictCheckpointHook(Hook):
    """Refuse to test a checkpoint that does not fit the model.

    MMEngine loads what fits and warns about the rest, so that the checkpoint
    of another model is evaluated half random.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the checkpoint just read, before its weights are used."""
        check_test_checkpoint(runner.model, checkpoint)


def check_test_checkpoint(model: nn.Module, checkpoint: dict) -> None:
    """Load a checkpoint, or a plain state dict, strictly.

    MMEngine loads it, so that the modules' conversions of old checkpoints are
    respected. ``ema_state_dict`` is not looked at (``EMAHook`` saves the
    averaged weights under ``state_dict``), nor is the data preprocessor.

    Raises:
        RuntimeError: Names keys that are missing, unexpected or of another
            shape.
        ValueError: Its values are not finite; names the first tensors.
    """
    model = unwrap(model)
    source = checkpoint.get('state_dict', checkpoint)
    state = OrderedDict(
        (key.removeprefix('module.'), value)
        for key, value in source.items()
        if 'data_preprocessor.' not in key
    )
    # module versions, which decide what is converted
    state._metadata = getattr(source, '_metadata', OrderedDict())
    own = model.state_dict()
    check_finite(own, state, 'The checkpoint can not be tested')
    state.update({k: v for k, v in own.items() if 'data_preprocessor.' in k})
    try:
        load_state_dict(model, state, strict=True)
    except RuntimeError as error:
        lines = filter(str.strip, str(error).split('\n'))
        report = '\n'.join(textwrap.shorten(line, 500) for line in lines)
        wanted = {k: v for k, v in own.items() if k not in state}
        wanted = {k: v for k, v in wanted.items() if 'preprocessor.' not in k}
        fits = [f for f in find_fits(wanted, checkpoint) if not f.family]
        if fits and fits[0].inside:
            report += f'\nIts weights are under {fits[0].inside!r}.'
        elif fits:
            report += (
                f'\nIts keys carry the prefix {fits[0].strip!r}: write them '
                'to another file without it.'
            )
        raise RuntimeError(
            'The checkpoint does not belong to the model of this config, so '
            f'testing it would mean nothing.\n{report}'
        ) from None
