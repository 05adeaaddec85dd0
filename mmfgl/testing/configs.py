"""Real configs at tiny size: same parts, few channels, small images."""

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
from mmdet.datasets import CocoDataset
from mmengine.config import Config, ConfigDict
from mmengine.config import config as mmengine_config

from mmfgl.testing.vit import WIDTH, tiny_vit_arch
from mmfgl.utils.audit.uses import parts_of
from mmfgl.utils.checked_runner import leaf_datasets

SIDE = 64  # pixels of views and images


def _in_no_metafile(package_path: str, cfg_file: str) -> str:
    """Saves MMEngine the reading of every metafile of a parent."""
    raise ValueError('what configs take from a parent is in its _base_')


def read_config(path: str | Path) -> Config:
    """A config without what would read pretrained weights."""
    with patch.object(
        mmengine_config, '_get_external_cfg_path', _in_no_metafile
    ):
        cfg = Config.fromfile(path)
    for part in parts_of(cfg.model):
        if (part.get('init_cfg') or {}).get('type') == 'Pretrained':
            part['init_cfg'] = None
        if part.get('pretrained'):
            part['pretrained'] = False
    return cfg


def narrow_model(model: ConfigDict) -> None:
    """Fewer channels, layers and proposals of a detector, in place.

    ``model`` may be a pretraining of one. Backbones that are small already
    (EfficientNet-Lite0, ResNet-18) stay as they are.
    """
    tasks = model.get('tasks', ())
    readers = [task for task in tasks if 'in_channels' in task]
    if model.get('head') and 'projector' in model.head:
        readers.append(model.head.projector)
    model = model.get('detector', model)
    backbone, neck = model.backbone, model.get('neck')
    if backbone.get('depth') == 50:
        backbone.update(base_channels=4, stem_channels=4)
        neck.in_channels = [16, 32, 64, 128]
    elif backbone.get('arch') == 'b':
        backbone.arch = tiny_vit_arch()
        neck.in_channels = WIDTH
    elif backbone.get('model_name') == 'convnext_tiny':
        backbone.update(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64))
        neck.in_channels = [8, 16, 32, 64]
    for task in tasks:
        if task['type'] == 'mmfgl.DenseDistillTask':
            _narrow_dense(task, neck.in_channels)
    if 'roi_head' not in model:
        return
    if 'fc_out_channels' in model.roi_head.bbox_head:
        model.roi_head.bbox_head.fc_out_channels = 64
        for reader in readers:  # of the shared layers
            reader.in_channels = 64
    if 'mask_head' in model.roi_head:
        model.roi_head.mask_head.update(num_convs=1, conv_out_channels=16)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=4)
    for stage in (model.train_cfg.rpn_proposal, model.test_cfg.rpn):
        if stage:  # none without an RPN
            stage.update(nms_pre=100, max_per_img=40)


def _narrow_dense(task: ConfigDict, in_channels: int | list[int]) -> None:
    """Fit dense distillation to a narrow backbone; narrow its teacher."""
    if isinstance(in_channels, int):
        in_channels = [in_channels]
    task.backbone = [
        pair and (channels, pair[1])
        for pair, channels in zip(task.backbone, in_channels, strict=True)
    ]
    teacher = task.teacher.backbone
    if teacher.get('arch') == 'dinov2-small':
        teacher.arch = tiny_vit_arch()
        teacher.arch['num_layers'] = 3
        teacher.out_indices = (0, 1, 2)


def shrink_pipeline(pipeline: list[dict]) -> None:
    """Make images and views tiny, in place."""
    steps = list(parts_of(pipeline))
    resizes = [s for s in steps if s['type'].endswith('Resize')]
    longest = max((np.max(s['scale']) for s in resizes), default=1)

    def shrunk(scale):
        if isinstance(scale, list | tuple):
            return type(scale)(map(shrunk, scale))
        return round(SIDE * scale / longest)

    for step in resizes:
        step['scale'] = shrunk(step['scale'])
    for step in steps:
        if step['type'] == 'mmfgl.RegionViews':
            step['view_size'] = SIDE
        elif step['type'].endswith('ResizedCrop'):
            step['scale'] = SIDE


def use_tiny_coco(dataset: ConfigDict, root: Path, split: str) -> None:
    """Point a dataset without wrappers at :func:`tiny_coco`, in place.

    ``root`` is that of the tiny set; an annotation file with the dataset's
    class names is written there. ``split`` is ``'train'`` or ``'val'``.
    """
    dataset.data_root = str(root)
    if dataset.type == 'mmfgl.UnlabelledImages':
        dataset.update(ann_file='', data_prefix=dict(img_path='unlabelled/'))
        for part in list(parts_of(dataset.pipeline)):
            if part['type'] == 'mmfgl.FileRegions':  # of other images
                part.clear()
                part['type'] = 'mmfgl.RandomRegions'
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


def classes_of(dataset: ConfigDict) -> tuple[str, ...]:
    """Class names that a ``CocoDataset`` config will use."""
    return CocoDataset._load_metainfo(dataset.get('metainfo'))['classes']


def tiny_loader(
    loader: ConfigDict, root: Path, split: str, pipeline: list | None = None
) -> None:
    """Let a data loader read two tiny images in this process, in place.

    See :func:`use_tiny_coco`; ``pipeline`` replaces that of the datasets.
    """
    for dataset in leaf_datasets(loader.dataset):
        use_tiny_coco(dataset, root, split)
        if pipeline is not None:
            dataset.pipeline = pipeline
        shrink_pipeline(dataset.pipeline)
    loader.update(batch_size=2, num_workers=0, persistent_workers=False)
    if 'batch_size' in loader.sampler:  # forms the batches itself
        loader.sampler.batch_size = 2
