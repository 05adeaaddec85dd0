"""Checks that turn the commonest user mistakes into clear errors."""

from __future__ import annotations

import os.path as osp
import textwrap
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_state_dict
from torch import nn

from mmfgl.utils.launch import check_checkpoint
from mmfgl.utils.model import unwrap


def check_data_root(cfg: Config) -> None:
    """Make sure that a local ``data_root``, if any, is there.

    Raises:
        FileNotFoundError: The folder does not exist; says what to do.
    """
    root = cfg.get('data_root')
    if root is None or ':' in root or osp.isdir(root):
        return
    build = ''
    if 'digit_scenes' in osp.basename(root.rstrip('/')):
        tool = 'tools/dataset_converters/digit_scenes.py'
        build = f'\n  - build this data set: python {tool} --out {root}'
    raise FileNotFoundError(
        f'The data_root of this config does not exist: {root}{build}\n'
        '  - name your own folder: --cfg-options data_root=DIR, or '
        'MMFGL_DATA_ROOT=PARENT_DIR for configs that read it'
    )


def check_weights(cfg: Config) -> None:
    """Make sure that the local files training starts from are whole.

    These are ``load_from`` and every ``init_cfg`` of type ``Pretrained``.

    Raises:
        FileNotFoundError: A file does not exist; says what to do.
        ValueError: A file is incomplete.
    """
    hint = (
        'run the pretraining config first, or name another one: --cfg-options '
        'load_from=CHECKPOINT'
    )
    if cfg.get('load_from'):
        check_checkpoint(cfg.load_from, 'checkpoint to start from', hint)
    for path in _init_checkpoints(cfg.model):
        hint = ''
        if 'efficientnet-lite0' in path:
            tool = 'tools/model_converters/efficientnet_lite0.py'
            hint = f'write it: python {tool} --out {path}'
        check_checkpoint(path, 'file of weights of an init_cfg', hint)


def _init_checkpoints(node: Any) -> Iterator[str]:
    """Checkpoints of all ``init_cfg=dict(type='Pretrained', ...)``."""
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained' and node.get('checkpoint'):
            yield node['checkpoint']
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _init_checkpoints(child)


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
    state.update({k: v for k, v in own.items() if 'data_preprocessor.' in k})
    try:
        load_state_dict(model, state, strict=True)
    except RuntimeError as error:
        lines = filter(str.strip, str(error).split('\n'))
        report = '\n'.join(textwrap.shorten(line, 500) for line in lines)
        raise RuntimeError(
            'The checkpoint does not belong to the model of this config, so '
            f'testing it would mean nothing.\n{report}'
        ) from None
