"""Real configs at tiny size: same parts, few channels, small images."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from mmdet.datasets import CocoDataset
from mmengine.config import Config, ConfigDict
from mmengine.config import config as mmengine_config

from mmfgl.testing.vit import WIDTH, tiny_vit_arch
from mmfgl.utils.launch import leaf_datasets

SIDE = 64  # pixels of views and images


_find_external = mmengine_config._get_external_cfg_path


@functools.cache
def _find_once(package_path: str, cfg_file: str) -> str | ValueError:
    try:
        return _find_external(package_path, cfg_file)
    except ValueError as error:  # a base: not in any metafile
        return error


def _find_quickly(package_path: str, cfg_file: str) -> str:
    """MMEngine reads every metafile of a parent anew for every config."""
    found = _find_once(package_path, cfg_file)
    if isinstance(found, ValueError):
        raise found
    return found


def read_config(path: str | Path) -> Config:
    """A config without the ``init_cfg`` that would read a checkpoint.

    Args:
        path: The config file.

    Returns:
        The config.
    """
    with patch.object(
        mmengine_config, '_get_external_cfg_path', _find_quickly
    ):
        cfg = Config.fromfile(path)
    _drop_downloads(cfg.model)
    return cfg


def _drop_downloads(node: object) -> None:
    if isinstance(node, dict):
        if (node.get('init_cfg') or {}).get('type') == 'Pretrained':
            node['init_cfg'] = None
        node = list(node.values())
    if isinstance(node, list | tuple):
        for child in node:
            _drop_downloads(child)


def narrow_model(model: ConfigDict) -> None:
    """Fewer channels, layers and proposals, in place.

    Args:
        model: Config of a detector or of a pretraining. Backbones that are
            small already (EfficientNet-Lite0, ResNet-18) stay as they are.
    """
    backbone, neck = model.backbone, model.neck
    if backbone.get('depth') == 50:
        backbone.update(base_channels=4, stem_channels=4)
        neck.in_channels = [16, 32, 64, 128]
    elif backbone.get('arch') == 'b':
        backbone.arch = tiny_vit_arch()
        neck.in_channels = WIDTH
    if 'roi_head' not in model:
        return
    bbox_head = model.roi_head.get('bbox_head') or {}
    if 'fc_out_channels' in bbox_head:
        bbox_head.fc_out_channels = 64
    if 'mask_head' in model.roi_head:
        model.roi_head.mask_head.update(num_convs=1, conv_out_channels=16)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=4)
    for stage in ('train_cfg.rpn_proposal', 'test_cfg.rpn'):
        part, _, name = stage.partition('.')
        if name in model.get(part, {}):
            model[part][name].update(nms_pre=100, max_per_img=40)


def steps_of(pipeline: object) -> Iterator[dict]:
    """Every transform of a pipeline, those inside others included.

    Args:
        pipeline: A list of transform configs.
    """
    for step in pipeline:
        if isinstance(step, dict):
            yield step
            step = step.get('transforms', ())
        if isinstance(step, list | tuple):
            yield from steps_of(step)


def shrink_pipeline(pipeline: list[dict]) -> None:
    """Make images and views tiny, in place.

    Args:
        pipeline: A list of transform configs.
    """
    steps = list(steps_of(pipeline))
    resizes = [s for s in steps if s['type'].endswith('Resize')]
    longest = max((max(s['scale']) for s in resizes), default=1)
    for step in resizes:
        step['scale'] = tuple(
            round(SIDE * side / longest) for side in step['scale']
        )
    for step in steps:
        if step['type'] == 'mmfgl.RegionViews':
            step['view_size'] = SIDE
        elif step['type'].endswith('ResizedCrop'):
            step['scale'] = SIDE


def use_tiny_coco(dataset: ConfigDict, root: Path, split: str) -> None:
    """Point a dataset config at :func:`tiny_coco`, renaming its classes.

    Args:
        dataset: Config of a dataset without wrappers; changed in place.
        root: Root of the tiny set. An annotation file with the dataset's
            class names is written beside its own.
        split: ``'train'`` or ``'val'``.
    """
    dataset.data_root = str(root)
    if dataset.type == 'mmfgl.UnlabelledImages':
        dataset.data_prefix.img_path = 'unlabelled/'
        for step in steps_of(dataset.pipeline):
            for key in ('proposer', 'object_proposer'):
                if step.get(key):
                    step[key] = _without_files(step[key])
        return
    dataset.data_prefix.img = f'{split}/'
    content = json.loads((root / f'annotations/{split}.json').read_text())
    classes = classes_of(dataset)
    content['categories'] = [
        dict(id=i, name=name) for i, name in enumerate(classes)
    ]
    for annotation in content['annotations']:
        annotation['category_id'] %= len(classes)
    dataset.ann_file = f'annotations/{split}_{len(classes)}.json'
    (root / dataset.ann_file).write_text(json.dumps(content))


def _without_files(proposer: ConfigDict) -> ConfigDict:
    """Random boxes in place of a file's, which belong to other images."""
    if proposer.type == 'mmfgl.FileRegions':
        return ConfigDict(type='mmfgl.RandomRegions')
    if 'proposers' in proposer:
        proposer.proposers = [_without_files(p) for p in proposer.proposers]
    return proposer


def classes_of(dataset: ConfigDict) -> tuple[str, ...]:
    """Class names that a ``CocoDataset`` config will use.

    Args:
        dataset: The config.
    """
    return CocoDataset._load_metainfo(dataset.get('metainfo'))['classes']


def tiny_loader(
    loader: ConfigDict, root: Path, split: str, pipeline: list | None = None
) -> None:
    """Let a data loader read two tiny images in this process, in place.

    Args:
        loader: Config of a data loader.
        root: Root of :func:`tiny_coco`.
        split: ``'train'`` or ``'val'``.
        pipeline: Replaces the pipeline of the datasets.
    """
    for dataset in leaf_datasets(loader.dataset):
        use_tiny_coco(dataset, root, split)
        if pipeline is not None:
            dataset.pipeline = pipeline
        shrink_pipeline(dataset.pipeline)
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
