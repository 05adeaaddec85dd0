"""The analysis tools and mmdet's DetInferencer on tiny FGL detectors."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config

from mmfgl.registry import DATASETS, MODELS
from mmfgl.testing import (
    randomise_weights,
    tiny_coco,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
)
from mmfgl.utils.launch import replace_data_root
from mmfgl.visualization.regions import SeenImage, draw_seen

ROOT = Path(__file__).parents[2]
CLASSES = tuple('0123456789')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    return tiny_coco(root, num_images=1, num_val=1, num_unlabelled=1)


@pytest.fixture(scope='module')
def image(data):
    return str(next((data / 'val').iterdir()))


def write(folder, data, name, **changes):
    """Config and checkpoint of a tiny detector with random weights."""
    model = tiny_fgl_cfg(len(CLASSES), **changes)
    if name == 'plain':
        model = tiny_plain_detector_cfg()
    cfg = Config.fromfile(Path(__file__).with_name('tiny_detector.py'))
    replace_data_root(cfg, str(data))
    cfg.model = model
    cfg.dump(folder / f'{name}.py')
    built = randomise_weights(MODELS.build(model))
    checkpoint = dict(
        state_dict=built.state_dict(),
        meta=dict(dataset_meta=dict(classes=CLASSES)),
    )
    torch.save(checkpoint, folder / f'{name}.pth')
    return str(folder / f'{name}.py'), str(folder / f'{name}.pth')


def run_tool(name, *arguments):
    argv, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        runpy.run_path(
            str(ROOT / 'tools/analysis_tools' / name), run_name='__main__'
        )
    finally:
        sys.argv = argv


def test_inferencer(tmp_path, data, image):
    config, checkpoint = write(tmp_path, data, 'fgl')
    inferencer = DetInferencer(
        config, checkpoint, device='cpu', palette='random'
    )
    results = inferencer(
        image,
        out_dir=str(tmp_path / 'out'),
        pred_score_thr=0.0,
        no_save_pred=False,
    )
    (found,) = results['predictions']
    assert 0 < len(found['bboxes']) == len(found['scores'])
    assert set(found['labels']) <= set(range(len(CLASSES)))
    saved = tmp_path / 'out/preds' / (Path(image).stem + '.json')
    assert json.loads(saved.read_text())['labels'] == found['labels']
    assert len(list((tmp_path / 'out/vis').iterdir())) == 1


@pytest.mark.parametrize('layers', [(1, 1), (1, 0), (0, 0)], ids=str)
def test_draw_candidates(tmp_path, data, image, layers):
    roi_head = tiny_fgl_cfg(len(CLASSES), num_targets=8).roi_head
    roi_head.transformer.update(
        num_encoder_layers=layers[0], num_decoder_layers=layers[1]
    )
    files = write(tmp_path, data, 'fgl', roi_head=roi_head)
    out = tmp_path / 'pictures/one.png'
    run_tool('draw_candidates.py', image, *files, '--out', out, '--target', 1)
    assert out.stat().st_size > 10_000
    with pytest.raises(SystemExit, match='count from 0'):
        run_tool('draw_candidates.py', image, *files, '--target', 8)


def test_draw_candidates_of_another_detector(tmp_path, data, image):
    files = write(tmp_path, data, 'plain')
    with pytest.raises(SystemExit, match=r'mmfgl.FGLRoIHead.*StandardRoI'):
        run_tool('draw_candidates.py', image, *files)
    with pytest.raises(SystemExit, match='no such file: nowhere'):
        run_tool('draw_candidates.py', 'nowhere', *files)


def test_get_flops(tmp_path, data, capsys):
    config, _ = write(tmp_path, data, 'fgl')
    plain, _ = write(tmp_path, data, 'plain')
    run_tool('get_flops.py', config, plain, '--shape', 64, 96)
    rows = capsys.readouterr().out.splitlines()[-2:]
    for name, row in zip(('fgl', 'plain'), rows, strict=True):
        cells = [cell.strip() for cell in row.strip('|').split('|')]
        assert cells[0] == name
        assert float(cells[1].split()[0]) > 0.1
        assert float(cells[3].split()[0]) > 0
    with pytest.raises(SystemExit, match='no such file'):
        run_tool('get_flops.py', 'nowhere.py')


def parents_tool(parent, name, *arguments):
    """Run a tool that comes with MMDetection's or MMPretrain's wheel."""
    package = pytest.importorskip(parent)
    path = Path(package.__file__).parent / '.mim/tools' / name
    if not path.is_file():
        pytest.skip(f'{parent} was installed without its tools')
    argv, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        runpy.run_path(str(path), run_name='__main__')
    finally:
        sys.argv = argv


def test_flops_are_those_of_mmdetection(tmp_path, data, capsys):
    """Its tool traces the detector, and counts what ours counts."""
    config, _ = write(tmp_path, data, 'fgl')
    parents_tool(
        'mmdet', 'analysis_tools/get_flops.py', config, '--num-images', 1
    )
    theirs = re.search(r'Flops: ([\d.]+)([KMG])', capsys.readouterr().out)
    tool = ROOT / 'tools/analysis_tools/get_flops.py'
    tool = runpy.run_path(str(tool))
    ours = tool['measure'](tool['build'](config), (96, 128))
    unit = dict(K=1e3, M=1e6, G=1e9)[theirs[2]]
    assert ours['flops'] == pytest.approx(float(theirs[1]) * unit, rel=1e-3)


def test_browse_detection_data_by_mmdetection(tmp_path, data):
    config, _ = write(tmp_path, data, 'fgl')
    cfg = Config.fromfile(config)
    # the tool ends with the data set, which a RepeatDataset never does
    cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
    cfg.visualizer.name = 'browse'
    cfg.dump(config)
    tool, out = 'analysis_tools/browse_dataset.py', tmp_path / 'out'
    parents_tool('mmdet', tool, config, '--not-show', '--output-dir', out)
    assert list(out.iterdir())


@pytest.fixture
def pretraining(tmp_path, data):
    """Config of a pretraining on regions of a file; one image is damaged."""
    images = tmp_path / 'photos'
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
    (tmp_path / 'regions.json').write_text(json.dumps(content))
    cfg = Config.fromfile(
        ROOT / 'configs/retod/'
        'objectness_efficientnet-lite0-fpn_1xb8-400_aquarium.py'
    )
    file = dict(
        type='mmfgl.FileRegions', ann_file=str(tmp_path / 'regions.json')
    )
    dataset = cfg.train_dataloader.dataset
    dataset.update(data_root=str(images), data_prefix=dict(img_path=''))
    views = dict(num_regions=2, num_views=2, view_size=64)
    for key, value in dict(views, proposer=file, object_proposer=file).items():
        dataset.pipeline[1][key] = value
    cfg.dump(tmp_path / 'pretraining.py')
    return tmp_path / 'pretraining.py'


def test_browse_regions(pretraining, tmp_path, data, capsys):
    out = tmp_path / 'sheets'
    run_tool('browse_regions.py', pretraining, '--out', out, '--num', 3)
    sheets = sorted(path.name for path in out.iterdir())
    assert sheets == ['clusters.png', 'page_01.png']
    assert all((out / name).stat().st_size > 20_000 for name in sheets)
    printed = capsys.readouterr().out
    assert printed.count('unreadable, left out: ') == 1
    assert '/broken.jpg: ' in printed
    config, _ = write(tmp_path, data, 'fgl')
    with pytest.raises(SystemExit, match='error: .*trains on no region views'):
        run_tool('browse_regions.py', config, '--out', out)


def test_what_is_drawn(pretraining):
    """Boxes lie on the objects: those of a view map back into the image."""
    cfg = Config.fromfile(pretraining)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    seen = SeenImage.of(dataset[0], dataset.data_prefix['img_path'])
    assert seen.name == 'a.jpg'
    figure = draw_seen([seen], clusters=2)
    panels = figure.axes
    assert [len(axes.images) for axes in panels] == [1, 1, 1]
    counts = [int((seen.objects[:, 0] == view).sum()) for view in (0, 1)]
    for count, axes in zip(counts, panels[1:], strict=True):
        assert axes.get_title().split(': ')[1] == (
            f'{count} pseudo-objects, 2 regions'
        )
        assert len(axes.patches) == 2 * (count + 2)
        assert len(axes.texts) == count
    limits = np.array([128, 96, 128, 96]) + 1e-3
    for patch in panels[0].patches:
        (x1, y1), (w, h) = patch.xy, (patch.get_width(), patch.get_height())
        assert (np.array([x1, y1, x1 + w, y1 + h]) <= limits).all()


def test_browse_pretraining_data_by_mmpretrain(pretraining, tmp_path):
    out = tmp_path / 'pictures'
    tool = 'visualization/browse_dataset.py'
    # its other modes do not know the newer Matplotlib
    options = ['--not-show', '--show-number', 1, '--mode', 'original']
    parents_tool('mmpretrain', tool, pretraining, *options, '-o', out)
    assert (out / 'a.jpg').stat().st_size > 5_000
