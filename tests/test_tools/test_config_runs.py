"""Configs with a test path of their own, through tools/test.py."""

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import narrow_model, read_config, tiny_loader
from tools.test import main

FOLDER = Path(__file__).resolve().parents[2] / 'configs' / 'fgl_faster_rcnn'
IMAGES = 2


@pytest.fixture(scope='module', autouse=True)
def scope():
    # Runners leave their default scope behind
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny_coco(tmp_path_factory.mktemp('runs') / 'data', num_val=IMAGES)


@pytest.fixture
def run(data, tmp_path, monkeypatch):
    """Test random weights of a narrow config; return its predictions."""

    def run(name, *flags, change=None):
        cfg = read_config(FOLDER / f'{name}.py')
        narrow_model(cfg.model)
        cfg.model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
        cfg.data_root = str(data)
        dataset = cfg.test_dataloader.dataset
        tiny_loader(cfg.test_dataloader, data, 'val')
        tiny_loader(cfg.train_dataloader, data, 'train')
        cfg.val_dataloader = cfg.test_dataloader
        cfg.test_evaluator.ann_file = str(data / dataset.ann_file)
        if change is not None:
            change(cfg)
        with DefaultScope.overwrite_default_scope('mmdet'):
            torch.manual_seed(0)
            model = MODELS.build(cfg.model)
            model.init_weights()
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
        cfg.dump(tmp_path / 'config.py')
        out = tmp_path / 'out.pkl'
        monkeypatch.setattr(
            sys,
            'argv',
            ['test.py', str(tmp_path / 'config.py')]
            + [str(tmp_path / 'model.pth'), '--out', str(out)]
            + ['--work-dir', str(tmp_path / 'work'), *flags],
        )
        main()
        results = pickle.loads(out.read_bytes())
        assert len(results) == IMAGES
        for result in results:
            found = result['pred_instances']
            assert len(found['scores']) == 5
            assert found['scores'].isfinite().all()
        return results

    return run


def metrics_of(folder):
    """The metrics that a Runner has written."""
    (path,) = (folder / 'work').glob('*/*.json')
    return json.loads(path.read_text())


@pytest.mark.parametrize('flags', [(), ('--tta',)], ids=['plain', 'tta'])
def test_candidates_from_the_grid(run, tmp_path, flags):
    def big_views(cfg):
        # views that differ in size from the grid's cells
        cfg.model.region_proposer.cell_sizes = (24, 48)
        (views,) = (s for s in cfg.tta_pipeline if s.type == 'TestTimeAug')
        for step, side in zip(views.transforms[0], (48, 64, 80), strict=True):
            step.scale = (side, side)

    run('fgl-faster-rcnn_r50_fpn-grid_8xb2-1x_coco', *flags, change=big_views)
    assert 0 <= metrics_of(tmp_path)['coco/bbox_mAP'] <= 1


@pytest.mark.parametrize('name', ['fgl-mask-rcnn', 'mask-rcnn'])
def test_box_and_mask_ap_of_one_run(run, tmp_path, name):
    results = run(f'{name}_r50_fpn_8xb2-1x_coco')
    metrics = metrics_of(tmp_path)
    assert 0 <= metrics['coco/bbox_mAP'] <= 1
    assert 0 <= metrics['coco/segm_mAP'] <= 1
    assert all(len(r['pred_instances']['masks']) == 5 for r in results)


def test_submission_to_the_test_dev_server(run, data, tmp_path):
    name = 'fgl-faster-rcnn_r50-retod_fpn_8xb2-1x_coco-test-dev'
    given = read_config(FOLDER / f'{name}.py')
    # images and categories without annotations, as the COCO server gives them
    content = json.loads((data / 'annotations/val.json').read_text())
    del content['annotations']

    def submit(cfg):
        dataset = cfg.test_dataloader.dataset
        labelled = json.loads((data / dataset.ann_file).read_text())
        content['categories'] = [
            dict(category, id=3 * category['id'] + 1)
            for category in labelled['categories']
        ]
        path = data / given.test_dataloader.dataset.ann_file
        path.write_text(json.dumps(content))
        dataset.ann_file = given.test_dataloader.dataset.ann_file
        cfg.test_evaluator.update(
            ann_file=str(path), outfile_prefix=str(tmp_path / 'submit/boxes')
        )

    run(name, change=submit)
    rows = json.loads((tmp_path / 'submit/boxes.bbox.json').read_text())
    assert len(rows) == 5 * IMAGES
    ids = {category['id'] for category in content['categories']}
    for row in rows:
        assert row.keys() == {'image_id', 'bbox', 'score', 'category_id'}
        assert row['category_id'] in ids
        x, y, width, height = row['bbox']
        assert x >= 0 and y >= 0 and width >= 0 and height >= 0
    images = {image['id'] for image in content['images']}
    assert {row['image_id'] for row in rows} == images
