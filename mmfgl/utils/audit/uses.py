"""Which annotation files a config reads, and what for."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.utils import is_abs

from mmfgl.utils.audit.classes import coco_classes, dataset_type
from mmfgl.utils.audit.coco import Use
from mmfgl.utils.checked_runner import leaf_datasets
from mmfgl.utils.config_checks import type_name

UNTURNED = ('unchanged', 'color_ignore_orientation')


def dataset_uses(
    cfg: Config, loader: str
) -> Iterator[tuple[ConfigDict, Use | None]]:
    """Data sets of a loader; ``None`` for those that are no local COCO JSON.

    Also for those that read their annotations in a way of their own, as LVIS
    and Objects365 do.

    Raises:
        ValueError: A data set does not say where its images are, or has
            several annotation files.
    """
    if cfg.get(loader) is None:
        return
    train = loader.startswith('train')
    metrics = [] if train else list(coco_metrics(cfg, loader))
    segm = any('segm' in _listed(node.get('metric')) for node in metrics)
    scored = not metrics or any(not n.get('format_only') for n in metrics)
    for dataset in leaf_datasets(cfg[loader].dataset):
        path = dataset.get('ann_file') or ''
        if not isinstance(path, str):
            raise ValueError(
                f'ann_file of a data set of {loader} is {path!r}, and should '
                "be one file: join several by dict(type='ConcatDataset', "
                'datasets=[...])'
            )
        path = _join(dataset, path)
        if not path or _remote(dataset, path) or not _reads_coco(dataset):
            yield dataset, None
            continue
        steps = list(parts_of(dataset.get('pipeline')))
        loading = [s for s in steps if type_name(s) == 'LoadAnnotations']
        keep = dataset.get('filter_cfg') or {}
        use = Use(
            path=path,
            folder=_image_folder(dataset, steps, loader),
            classes=tuple(coco_classes(dataset, loader)),
            labels=bool(loading) if train else scored,
            train=train,
            masks=segm or any(step.get('with_mask') for step in loading),
            turned=not any(s.get('color_type') in UNTURNED for s in steps),
            min_size=keep.get('min_size', 0) if train else 0,
            filter_empty=train and keep.get('filter_empty_gt', False),
        )
        yield dataset, use


def metric_uses(cfg: Config, loader: str) -> Iterator[tuple[ConfigDict, Use]]:
    """COCO metrics of a loader whose data sets are all local COCO JSONs.

    Raises:
        ValueError: One has no annotations, neither of a file nor of the
            images.
    """
    uses = [use for _, use in dataset_uses(cfg, loader)]
    if not uses or None in uses or loader.startswith('train'):
        return
    for node in coco_metrics(cfg, loader):
        path = node.get('ann_file')
        if not path and not _packs_instances(cfg, loader):
            name = loader.replace('dataloader', 'evaluator')
            raise ValueError(
                f'{name} has no ann_file: give it that of {loader}, '
                f'{uses[0].path}'
            )
        if not path or _remote(node, path):
            continue
        real = osp.realpath(path)
        same = [use for use in uses if osp.realpath(use.path) == real]
        yield node, same[0] if same else uses[0]._replace(path=path)


def _packs_instances(cfg: Config, loader: str) -> bool:
    """Whether each image carries what a ``CocoMetric`` without file reads."""
    return any(
        'instances' in (step.get('meta_keys') or ())
        for dataset in leaf_datasets(cfg[loader].dataset)
        for step in parts_of(dataset.get('pipeline'))
    )


def coco_metrics(cfg: Config, loader: str) -> Iterator[ConfigDict]:
    """Configs of the ``CocoMetric`` s of a loader's evaluator."""
    from mmdet.evaluation import CocoMetric
    from mmdet.registry import METRICS

    for node in parts_of(cfg.get(loader.replace('dataloader', 'evaluator'))):
        kind = node['type']
        kind = METRICS.get(kind) if isinstance(kind, str) else kind
        if isinstance(kind, type) and issubclass(kind, CocoMetric):
            yield node


def many_evaluators(cfg: Config, loader: str) -> bool:
    """Whether each data set of a loader has metrics of its own."""
    evaluator = cfg.get(loader.replace('dataloader', 'evaluator'))
    return any(
        type_name(n) == 'MultiDatasetsEvaluator' for n in parts_of(evaluator)
    )


def _reads_coco(dataset: ConfigDict) -> bool:
    from mmdet.datasets import CocoDataset

    kind = dataset_type(dataset)
    return (
        kind is not None
        and issubclass(kind, CocoDataset)
        and kind.load_data_list is CocoDataset.load_data_list
        and kind.parse_data_info is CocoDataset.parse_data_info
    )


def _join(dataset: ConfigDict, path: str) -> str:
    """A path as ``BaseDataset`` joins it with the data root."""
    root = dataset.get('data_root')
    return osp.join(root, path) if root and not is_abs(path) else path


def _remote(node: ConfigDict, *paths: str) -> bool:
    backend = (node.get('backend_args') or {}).get('backend', 'local')
    return backend != 'local' or any('://' in path for path in paths)


def _image_folder(
    dataset: ConfigDict, steps: list[ConfigDict], loader: str
) -> str | None:
    """Folder of the images, ``None`` if it is not on this disk."""
    prefix = (dataset.get('data_prefix') or {}).get('img')
    if prefix is None:
        raise ValueError(
            f'A data set of {loader} does not say where its images are: give '
            "it data_prefix=dict(img='FOLDER/')."
        )
    folder = _join(dataset, prefix)
    remote = any(_remote(node, folder) for node in (dataset, *steps))
    return None if remote else folder


def _listed(value: Any) -> list:
    return list(value) if isinstance(value, list | tuple) else [value]


def parts_of(node: Any) -> Iterator[ConfigDict]:
    """Every dict with a ``type`` inside nested dicts and lists."""
    if isinstance(node, dict):
        if 'type' in node:
            yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            yield from parts_of(child)
