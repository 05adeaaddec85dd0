"""tools/benchmarks/tta.py on a tiny detector and digit scenes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from lib import tta_arms, tta_config, tta_measure
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmfgl.testing.data import tiny_coco
from mmfgl.utils.audit import audit_config
from tools.benchmarks import tta

CONFIG = str(Path(__file__).with_name('tiny_detector.py'))
# plain Faster R-CNN: mode 'pyramid' needs an FGLRoIHead
ARMS = ['plain', 'det_tta', 'det_tta_wbf', 'roi_tta_views', 'roi_tta_slices']
STATS = ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl']
TIMES = ['seconds_per_image', 'time_to_plain', 'time_to_det_tta']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    return str(tiny_coco(root, num_images=1, num_val=5, num_unlabelled=1))


@pytest.fixture(scope='module')
def detector():
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        return MODELS.build(Config.fromfile(CONFIG).model)


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, detector):
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    path = str(tmp_path_factory.mktemp('checkpoint') / 'model.pth')
    torch.save(dict(state_dict=detector.state_dict(), meta=meta), path)
    return path


def sample_ids(batch):
    samples = batch['data_samples']
    if isinstance(samples[0], list | tuple):
        samples = [sample for view in samples for sample in view]
    return [sample.img_id for sample in samples]


@pytest.mark.parametrize('views, number', [('config', 2), ('scales_flip', 6)])
def test_side_by_side(
    data, checkpoint, tmp_path, monkeypatch, capsys, views, number
):
    given, timed = [], tta_measure.timed

    def record(model, batches):
        given.append((type(model).__name__, [sample_ids(b) for b in batches]))
        return timed(model, batches)

    monkeypatch.setattr(tta_measure, 'timed', record)
    arguments = ['--config', CONFIG, '--checkpoint', checkpoint]
    arguments += ['--data-root', data, '--out', tmp_path, '--views', views]
    monkeypatch.setattr(sys, 'argv', ['tta.py', *map(str, arguments)])
    tta.main()
    results = json.loads((tmp_path / 'results.json').read_text())
    assert results.pop('roi_tta_pyramid') is None
    assert list(results) == [*ARMS, 'settings']
    for name in ARMS:
        assert set(results[name]) == {*STATS, *TIMES}
        assert all(-1 <= results[name][stat] <= 100 for stat in STATS)
        assert results[name]['seconds_per_image'] > 0
    assert results['plain']['time_to_plain'] == 1
    assert results['det_tta']['time_to_det_tta'] == 1
    assert results['settings']['images'] == 5
    shown = capsys.readouterr().out
    table = (tmp_path / 'results.md').read_text()
    assert table in shown and table.count('\n|') == 7
    # the missing arm has dashes, and the reason is told
    assert table.splitlines()[6].count('–') == 9
    assert 'pyramid, is left out: ' in shown and 'FGLRoIHead' in shown
    # a warm-up each, then turns in another order, on the same images
    views_of = [1, number, number, number, 5]
    sizes = [[len(ids) for ids in batches] for _, batches in given]
    assert sizes[:5] == [[n] for n in views_of]
    assert sizes[5:10] == [[n] * 4 for n in views_of]
    assert sizes[10:] == [[n] for n in views_of[1:] + views_of[:1]]
    for turns in (given[5:10], given[10:]):
        assert len({tuple(ids[0] for ids in b) for _, b in turns}) == 1
    kinds = [kind for kind, _ in given]
    assert kinds[:3] == ['FasterRCNN', 'DetTTAModel', 'DetTTAWithWBF']
    assert kinds[10:] == kinds[1:5] + kinds[:1]


def config(data, **options):
    return tta_config.read_config(CONFIG, data, options)


def steps(pipeline):
    (augmentation,) = (s for s in pipeline if s['type'] == 'TestTimeAug')
    choices = [step for steps in augmentation.transforms for step in steps]
    return choices, [s for s in choices if s['type'] == 'Resize']


def test_ready_made_views_at_the_scale_of_the_config(data, capsys):
    cfg = config(data)
    tta_config.set_views(cfg, 'scales_flip')
    choices, resizes = steps(cfg.tta_pipeline)
    # the config tests at (128, 96); x 0.8 and 1.25
    expected = [(102, 77), (128, 96), (160, 120)]
    assert [tuple(step.scale) for step in resizes] == expected
    assert all(step.keep_ratio for step in resizes)
    flips = [step.prob for step in choices if step['type'] == 'RandomFlip']
    assert flips == [0, 1]
    _, resizes = steps(cfg.slices_pipeline)
    assert [tuple(step.scale) for step in resizes] == [(128, 96)]
    cfg.pop('tta_pipeline')
    with pytest.raises(ValueError, match='has no tta_pipeline'):
        tta_config.set_views(cfg, 'config')
    cfg.test_dataloader.dataset.pipeline.pop(2)
    with pytest.raises(ValueError, match='need a test pipeline with one Res'):
        tta_config.set_views(cfg, 'flip')
    cfg = config(data)
    cfg.test_dataloader.dataset.pipeline.pop(2)
    tta_config.set_views(cfg, 'config')
    assert 'slices_pipeline' not in cfg
    assert 'slices, is left out' in capsys.readouterr().out


def test_classes_come_from_a_checkpoint_that_fits_the_data(data):
    def fitted(classes):
        cfg = config(data)
        cfg.test_dataloader.dataset.metainfo.classes = ('cat', 'dog')
        cfg.model.roi_head.bbox_head.num_classes = 2
        meta = dict(dataset_meta=dict(classes=classes))
        tta_config.fit_classes(cfg, dict(meta=meta))
        return cfg

    digits = tuple('0123456789')
    cfg = fitted(digits)
    audit_config(cfg, loaders=['test_dataloader'])
    assert cfg.model.roi_head.bbox_head.num_classes == 10
    assert tuple(cfg.test_dataloader.dataset.metainfo.classes) == digits
    for classes in (('cat', 'dog'), ('0', 'dog'), ()):
        with pytest.raises(ValueError, match='not among the 10 categories'):
            audit_config(fitted(classes), loaders=['test_dataloader'])


def test_configs_that_cannot_be_tested(data, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text('test_dataloader = dict(dataset=dict())')
    with pytest.raises(ValueError, match='no top-level `data_root`'):
        tta_config.read_config(str(path), data, {})
    path.write_text('model = dict()')
    with pytest.raises(ValueError, match='no test_dataloader'):
        tta_config.read_config(str(path), None, {})


def test_options_of_the_config_go_to_their_mode(data):
    def options(**tta_model):
        cfg = config(data)
        cfg.tta_model = dict(type='mmfgl.RoITTAModel', **tta_model)
        modes = ('views', 'pyramid')
        return [tta_arms.roi_tta_options(cfg, mode) for mode in modes]

    views, pyramid = options(voting_iou=0.5)
    assert views == dict(mode='views', voting_iou=0.5)
    assert pyramid['mode'] == 'pyramid' and 'voting_iou' not in pyramid
    views, pyramid = options(mode='pyramid', voting_iou=0.5)
    assert views == dict(mode='views')
    assert pyramid == dict(mode='pyramid', voting_iou=0.5)
    # as MMEngine reads a base mmfgl::...
    assert options(_scope_='mmfgl', voting_iou=0.5)[0] == dict(
        mode='views', voting_iou=0.5
    )


def test_weighted_boxes_fusion_of_views(detector):
    model = tta_arms.DetTTAWithWBF(tta_arms.DET_TTA_CFG, module=detector)
    samples = []
    for boxes, flip in (
        ([[10, 10, 30, 30], [60, 20, 90, 40]], None),
        ([[70, 10, 88, 30]], 'horizontal'),  # [12, 10, 30, 30] upright
    ):
        meta = dict(ori_shape=(50, 100), flip=bool(flip), flip_direction=flip)
        sample = DetDataSample(metainfo=meta)
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor(boxes).float(),
            scores=torch.full((len(boxes),), 0.6),
            labels=torch.zeros(len(boxes), dtype=torch.long),
        )
        samples.append(sample)
    (merged,) = model.merge_preds([samples])
    found = merged.pred_instances
    expected = torch.tensor([[11.0, 10, 30, 30], [60, 20, 90, 40]])
    torch.testing.assert_close(found.bboxes, expected)
    # one view of two saw the second
    torch.testing.assert_close(found.scores, torch.tensor([0.6, 0.3]))
    assert found.labels.tolist() == [0, 0]
    # nothing in any view
    for sample in samples:
        sample.pred_instances = sample.pred_instances[:0]
    (merged,) = model.merge_preds([samples])
    assert merged.pred_instances.bboxes.shape == (0, 4)


def test_medians_over_blocks():
    times = dict(plain=[1, 2, 90], det_tta=[4, 8, 80], roi_tta_views=[2, 6, 8])
    results = tta_measure.summarise_times(times, [2, 2, 2])
    expected = dict(seconds_per_image=3, time_to_plain=2, time_to_det_tta=0.5)
    assert results['roi_tta_views'] == expected
