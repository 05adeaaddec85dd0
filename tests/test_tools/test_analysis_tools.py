"""The analysis tools and mmdet's DetInferencer on tiny FGL detectors."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config

from mmfgl.registry import MODELS
from mmfgl.testing import (
    randomise_weights,
    tiny_coco,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
)
from mmfgl.utils.launch import replace_data_root

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
