"""The analysis tools and mmdet's DetInferencer on tiny FGL detectors."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import timm
from mmdet.apis import DetInferencer
from mmengine.config import Config
from tiny_runs import CLASSES, ROOT, run_tool, write, write_pretraining

from mmfgl.registry import DATASETS
from mmfgl.testing import tiny_coco, tiny_fgl_cfg
from mmfgl.visualization.regions import SeenImage, draw_seen

pytestmark = pytest.mark.usefixtures('unformatted_configs')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    return tiny_coco(root, num_images=1, num_val=1, num_unlabelled=1)


@pytest.fixture(scope='module')
def image(data):
    return str(next((data / 'val').iterdir()))


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


def test_get_flops_downloads_nothing(monkeypatch):
    def create_model(*args, pretrained, **kwargs):
        raise LookupError(f'pretrained={pretrained}')

    monkeypatch.setattr(timm, 'create_model', create_model)
    tool = runpy.run_path(str(ROOT / 'tools/analysis_tools/get_flops.py'))
    name = 'fgl-faster-rcnn_convnext-t_fpn_8xb2-1x_coco.py'
    with pytest.raises(LookupError, match='pretrained=False'):
        tool['build'](ROOT / 'configs/fgl_faster_rcnn' / name)


@pytest.fixture
def pretraining(tmp_path, data):
    return write_pretraining(tmp_path, data)


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
