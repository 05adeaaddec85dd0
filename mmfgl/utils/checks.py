"""Checks that turn the commonest user mistakes into clear errors."""

from __future__ import annotations

import json
import os
import os.path as osp
import re
import textwrap
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_state_dict
from torch import nn

from mmfgl.utils.launch import check_checkpoint, check_file, leaf_datasets
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
        name = 'file of weights of an init_cfg'
        check_checkpoint(path, name, weights_hint(path))


def weights_hint(path: str) -> str:
    """How to make a file of weights, '' if no tool here does."""
    if not (found := re.search(r'efficientnet-lite([012])', path)):
        return ''
    tool = 'tools/model_converters/efficientnet_lite.py'
    return f'write it: python {tool} --variant {found[1]} --out {path}'


def _init_checkpoints(node: Any) -> Iterator[str]:
    """Checkpoints of all ``init_cfg=dict(type='Pretrained', ...)``."""
    if isinstance(node, dict):
        if node.get('type') == 'Pretrained' and node.get('checkpoint'):
            yield node['checkpoint']
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from _init_checkpoints(child)


def check_num_classes(
    cfg: Config,
    loaders: Sequence[str] = ('train_dataloader', 'val_dataloader'),
) -> None:
    """Compare the classes of detector, config and annotation files.

    ``CocoDataset`` silently drops annotations of classes that it does not
    know, and numbers classes in the order of the annotation file. Other data
    sets and models without box head pass unchecked.

    Raises:
        FileNotFoundError: An annotation file does not exist.
        ValueError: The counts differ, the annotation file lacks a class, or
            has them in another order.
    """
    # Every rank would otherwise parse COCO's 450 MB once more.
    rank = os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))
    numbers = list(_num_classes(cfg.model))
    if rank != '0' or not numbers:
        return
    datasets = [
        (loader, dataset)
        for loader in loaders
        if cfg.get(loader) is not None
        for dataset in leaf_datasets(cfg[loader].dataset)
    ]
    seen = {}
    for loader, dataset in datasets:
        classes = _coco_classes(dataset)
        if classes is None:
            continue
        for number in numbers:
            if number != len(classes):
                raise ValueError(
                    f'The detector has num_classes={number}, but the dataset '
                    f'of {loader} has {len(classes)} classes: '
                    f'{_some(classes)}. Set num_classes of the box head or '
                    'metainfo=dict(classes=(...)) of the dataset.'
                )
        root, file = dataset.get('data_root') or '', dataset.get('ann_file')
        path = osp.join(root, file or '')
        # else none, remote storage, or looked at already
        if file and ':' not in path and seen.get(path) != classes:
            _compare_names(path, classes)
            seen[path] = classes


def _num_classes(model: ConfigDict) -> Iterator[int]:
    """Class counts of the box heads (several in a cascade)."""
    model = model.get('detector', model)
    heads = model.get('roi_head', model).get('bbox_head', [])
    for head in heads if isinstance(heads, list | tuple) else [heads]:
        if 'num_classes' in head:
            yield head['num_classes']


def _coco_classes(dataset: ConfigDict) -> list[str] | None:
    """Class names a ``CocoDataset`` will use; None for other types."""
    from mmdet.datasets import CocoDataset
    from mmdet.registry import DATASETS

    kind = dataset.get('type')
    if isinstance(kind, str):
        kind = DATASETS.get(kind)
    if not (isinstance(kind, type) and issubclass(kind, CocoDataset)):
        return None
    return list(kind._load_metainfo(dataset.get('metainfo'))['classes'])


def _compare_names(path: str, classes: list[str]) -> None:
    """Compare the config's class names with those of a COCO JSON."""
    check_file(path, 'annotation file named by the config')
    with open(path, encoding='utf-8') as file:
        categories = json.load(file).get('categories', [])
    names = [category['name'] for category in categories]
    missing = [name for name in classes if name not in names]
    if missing:
        raise ValueError(
            f'The config names {len(classes)} classes, but {len(missing)} of '
            f'them are not among the {len(names)} categories of {path}.\n'
            f'  missing: {_some(missing)}\n'
            f'  the file has: {_some(names)}\n'
            'Set metainfo=dict(classes=(...)) of the dataset to the names '
            'in the file.'
        )
    order = [name for name in names if name in classes]
    if order != classes:
        raise ValueError(
            f'The classes of the config are in another order than in {path}; '
            'MMDetection numbers them as the file does, so every result '
            f'would carry a wrong name. Use this order: {_some(order, 100)}'
        )


def _some(names: Sequence[str], limit: int = 8) -> str:
    more = len(names) - limit
    text = ', '.join(map(str, names[:limit]))
    return f'{text}, and {more} more' if more > 0 else text or '(none)'


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
