"""Configs of tiny detectors and pretrainings, and tools run on them."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmfgl.registry import MODELS
from mmfgl.testing import (
    randomise_weights,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
)
from mmfgl.utils.launch import replace_data_root

ROOT = Path(__file__).parents[2]
CLASSES = tuple('0123456789')


def write(folder, data, name, **changes):
    """Config and checkpoint of a tiny detector with random weights."""
    model = tiny_fgl_cfg(len(CLASSES), **changes)
    if name == 'plain':
        model = tiny_plain_detector_cfg()
    cfg = Config.fromfile(Path(__file__).with_name('tiny_detector.py'))
    replace_data_root(cfg, str(data))
    cfg.model = model
    cfg.dump(folder / f'{name}.py')
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = randomise_weights(MODELS.build(model))
    checkpoint = dict(
        state_dict=built.state_dict(),
        meta=dict(dataset_meta=dict(classes=CLASSES)),
    )
    torch.save(checkpoint, folder / f'{name}.pth')
    return str(folder / f'{name}.py'), str(folder / f'{name}.pth')


def run_tool(name, *arguments, folder=ROOT / 'tools/analysis_tools'):
    argv, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        runpy.run_path(str(folder / name), run_name='__main__')
    finally:
        sys.argv = argv


def parents_tool(parent, name, *arguments):
    """Run a tool that comes with MMDetection's or MMPretrain's wheel."""
    package = pytest.importorskip(parent)
    folder = Path(package.__file__).parent / '.mim/tools'
    if not (folder / name).is_file():
        pytest.skip(f'{parent} was installed without its tools')
    run_tool(name, *arguments, folder=folder)


def write_pretraining(folder, data):
    """Config of a pretraining on regions of a file; one image is damaged."""
    images = folder / 'photos'
    images.mkdir()
    good = next((data / 'val').iterdir())
    for name in ('a.jpg', 'b.jpg'):
        (images / name).write_bytes(good.read_bytes())
    (images / 'broken.jpg').write_bytes(good.read_bytes()[:300])
    width, height = 128, 96
    names = sorted(path.name for path in images.iterdir())
    boxes = [(0, 0, 60, 60), (30, 20, 70, 60), (60, 30, 60, 60)]
    content = dict(
        images=[
            dict(id=i, file_name=name, width=width, height=height)
            for i, name in enumerate(names)
        ],
        annotations=[
            dict(id=3 * i + j, image_id=i, category_id=j % 2, bbox=box)
            for i in range(len(names))
            for j, box in enumerate(boxes)
        ],
        categories=[dict(id=0, name='0'), dict(id=1, name='1')],
    )
    (folder / 'regions.json').write_text(json.dumps(content))
    cfg = Config.fromfile(
        ROOT / 'configs/retod/'
        'objectness_efficientnet-lite0-fpn_1xb8-400_aquarium.py'
    )
    file = dict(
        type='mmfgl.FileRegions', ann_file=str(folder / 'regions.json')
    )
    dataset = cfg.train_dataloader.dataset
    dataset.update(data_root=str(images), data_prefix=dict(img_path=''))
    views = dict(num_regions=2, num_views=2, view_size=64)
    for key, value in dict(views, proposer=file, object_proposer=file).items():
        dataset.pipeline[1][key] = value
    cfg.dump(folder / 'pretraining.py')
    return folder / 'pretraining.py'
