"""The config of tta.py: data root, classes, views, a part of the images."""

import json
import os.path as osp

from mmengine.config import Config, ConfigDict

from mmfgl.utils.checked_runner import leaf_datasets
from mmfgl.utils.launch import replace_data_root
from mmfgl.utils.tta_views import ready_made

VIEWS = ('config', 'flip', 'scales', 'scales_flip')


def read_config(path: str, data_root: str | None, options: dict) -> Config:
    """Read a config and apply the command line to it.

    Raises:
        ValueError: If it has no test data, or no data root to replace.
    """
    cfg = Config.fromfile(path)
    if cfg.get('test_dataloader') is None:
        raise ValueError(f'{path} has no test_dataloader: give a detector')
    if data_root is not None:
        if 'data_root' not in cfg:
            raise ValueError(
                f'{path} has no top-level `data_root` that --data-root could '
                'replace: set the paths by --cfg-options'
            )
        replace_data_root(cfg, str(data_root))
    cfg.merge_from_dict(options)
    return cfg


def test_dataset(cfg: Config) -> ConfigDict:
    """Config of the one dataset of the test data, below all wrappers.

    Raises:
        ValueError: If there are several.
    """
    datasets = list(leaf_datasets(cfg.test_dataloader.dataset))
    if len(datasets) > 1:
        raise ValueError(
            f'the test data are {len(datasets)} datasets: tta.py measures '
            'on one'
        )
    return datasets[0]


def annotation_file(cfg: Config) -> str:
    """Path of the annotation file of the test data."""
    dataset = test_dataset(cfg)
    return osp.join(dataset.get('data_root') or '', dataset.ann_file)


def fit_classes(cfg: Config, checkpoint: dict) -> None:
    """Take classes and ``num_classes`` from the checkpoint's meta data.

    Only if the annotation file has them too; otherwise the config stays as
    it is, for ``audit_config`` to complain about.
    """
    classes = checkpoint.get('meta', {}).get('dataset_meta', {})
    classes = list(classes.get('classes', ()))
    dataset = test_dataset(cfg)
    own = list(dataset.get('metainfo', {}).get('classes', ()))
    if not classes or classes == own:
        return
    with open(annotation_file(cfg), 'rb') as file:
        categories = json.load(file).get('categories', [])
    if {c['name'] for c in categories}.issuperset(classes):
        print(f'Classes of the checkpoint: {", ".join(classes)}')
        dataset.metainfo = dict(classes=tuple(classes))
        for head in ('bbox_head', 'mask_head'):
            if cfg.model.roi_head.get(head):
                cfg.model.roi_head[head].num_classes = len(classes)


def set_views(cfg: Config, views: str) -> None:
    """Set ``tta_pipeline``, unless ``'config'``, and ``slices_pipeline``.

    Raises:
        ValueError: If the config lacks what the views need. What the slices
            need is printed alone.
    """
    test_pipeline = test_dataset(cfg).pipeline
    if views != 'config':
        cfg.tta_pipeline = ready_made(test_pipeline, views)
    elif 'tta_pipeline' not in cfg:
        raise ValueError(
            'the config has no tta_pipeline: choose a base of '
            'configs/_base_/tta/ by --views'
        )
    try:
        cfg.slices_pipeline = ready_made(test_pipeline, 'slices')
    except ValueError as error:
        print(f'RoITTAModel, slices, is left out: {error}')
