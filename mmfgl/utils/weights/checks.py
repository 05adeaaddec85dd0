"""Checks of weights before a run uses them."""

from __future__ import annotations

import os.path as osp
import re
import textwrap
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader, Runner, load_state_dict
from torch import nn

from mmfgl.utils.model import unwrap

from .fit import find_fits
from .init_cfg import is_pretrained
from .kinds import CheckpointError, check_checkpoint
from .report import check_finite


def check_weights(cfg: Config) -> None:
    """Make sure that the local files training starts from are whole.

    These are ``load_from`` and every ``init_cfg`` of type ``Pretrained``, and
    what else a model of timm or mmdet names as a checkpoint. A checkpoint to
    resume from has been checked where it was chosen, by the main process.

    Raises:
        FileNotFoundError: A file does not exist; says what to do.
        CheckpointError: A file is no checkpoint, incomplete, or not safe to
            unpickle.
    """
    path = cfg.get('load_from')
    if path and not cfg.get('resume'):
        other = 'give another one: --cfg-options load_from=CHECKPOINT'
        hint = weights_hint(path)
        hint = f'{hint}, or {other}' if hint else other
        check_checkpoint(path, 'checkpoint to start from', hint)
    for key, path in _checkpoints(cfg.model):
        if key == 'init_cfg':
            hint = weights_hint(path)
            check_checkpoint(path, 'file of weights of an init_cfg', hint)
    check_opened_weights(cfg.model)


def check_opened_weights(model: Any) -> None:
    """Check the local files that a model opens while it is built.

    A model of timm unpickles its ``checkpoint_path`` by itself. So call this,
    after :func:`use_safe_loading`, before a model of a config is built.

    Args:
        model: Config of the model.

    Raises:
        CheckpointError: A file is no checkpoint, incomplete, or not safe to
            unpickle.
    """
    for key, path in _checkpoints(model):
        if key != 'init_cfg':
            what = f'file of weights of `{key}`'
            check_checkpoint(path, what, weights_hint(path))
            read_checkpoint(path)


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


def read_checkpoint(path: str) -> dict:
    """What MMEngine will read from a file, see :func:`use_safe_loading`.

    Raises:
        CheckpointError: It is refused, or holds no dict.
    """
    content = CheckpointLoader.load_checkpoint(path, 'cpu', logger='silent')
    if not isinstance(content, dict):
        raise CheckpointError(f'{path} holds no state dict')
    return content


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
