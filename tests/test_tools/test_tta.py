"""tools/benchmarks/tta.py on a tiny detector and digit scenes."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import CocoMetric
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmfgl.testing.data import tiny_coco
from mmfgl.utils.checks import check_num_classes

ROOT = Path(__file__).parents[2]
CONFIG = str(Path(__file__).with_name('tiny_detector.py'))
ARMS = ['plain', 'det_tta', 'roi_tta_views', 'roi_tta_pyramid']
STATS = ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl']


@pytest.fixture(scope='module', autouse=True)
def modules():
    """Let the tool import its parts; leave no trace for other test files."""
    scopes = DefaultScope._instance_dict.copy()
    path, names = sys.path.copy(), set(sys.modules)
    sys.path.insert(0, str(ROOT / 'tools' / 'benchmarks'))
    yield
    sys.path[:] = path
    for name in set(sys.modules) - names:
        if name.split('_')[0] == 'tta':
            del sys.modules[name]
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    return str(tiny_coco(root, num_images=1, num_val=5, num_unlabelled=1))


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        detector = MODELS.build(Config.fromfile(CONFIG).model)
    meta = dict(dataset_meta=dict(classes=tuple('0123456789')))
    path = str(tmp_path_factory.mktemp('checkpoint') / 'model.pth')
    torch.save(dict(state_dict=detector.state_dict(), meta=meta), path)
    return path


def run(monkeypatch, *arguments):
    import tta

    monkeypatch.setattr(sys, 'argv', ['tta.py', *map(str, arguments)])
    tta.main()


@pytest.mark.parametrize('views, number', [('config', 2), ('scales_flip', 6)])
def test_side_by_side(
    data, checkpoint, tmp_path, monkeypatch, capsys, views, number
):
    import tta_measure

    given = []
    time = tta_measure._time

    def record(model, batches):
        given.append(
            (
                type(model).__name__,
                getattr(getattr(model, 'options', None), 'mode', None),
                [sample_ids(batch) for batch in batches],
            )
        )
        return time(model, batches)

    monkeypatch.setattr(tta_measure, '_time', record)
    common = ['--config', CONFIG, '--checkpoint', checkpoint]
    run(
        monkeypatch,
        *common,
        *('--data-root', data, '--out', tmp_path, '--block', 2),
        *('--images', 4, '--views', views),
    )
    results = json.loads((tmp_path / 'results.json').read_text())
    assert list(results) == [*ARMS, 'settings']
    for name in ARMS:
        assert set(results[name]) == {
            *STATS,
            *('seconds_per_image', 'time_to_plain', 'time_to_det_tta'),
        }
        assert results[name]['seconds_per_image'] > 0
    assert results['plain']['time_to_plain'] == 1
    assert results['det_tta']['time_to_det_tta'] == 1
    assert results['settings']['images'] == 4
    shown = capsys.readouterr().out
    table = (tmp_path / 'results.md').read_text()
    assert table in shown and table.count('\n|') == 5
    # a warm-up each, then turns in another order, on the same images
    kinds = [
        ('FasterRCNN', None),
        ('DetTTAModel', None),
        ('RoITTAModel', 'views'),
        ('RoITTAModel', 'pyramid'),
    ]
    assert [g[:2] for g in given[:8]] == kinds * 2
    assert [g[:2] for g in given[8:]] == kinds[1:] + kinds[:1]
    for turns in (given[4:8], given[8:]):
        for kind, _, ids in turns:
            per_view = 1 if kind == 'FasterRCNN' else number
            assert [len(i) for i in ids] == [per_view] * 2
            assert {i for batch in ids for i in batch} == {
                i for batch in turns[0][2] for i in batch
            }


def sample_ids(batch):
    samples = batch['data_samples']
    if isinstance(samples[0], list | tuple):
        samples = [sample for view in samples for sample in view]
    return [sample.img_id for sample in samples]


def config(data, **options):
    import tta_config

    return tta_config.read_config(CONFIG, data, options)


def test_a_part_of_the_images(data, tmp_path):
    import tta_config

    cfg = config(data)
    tta_config.take_images(cfg, 2, tmp_path)
    part = json.loads(Path(tta_config.annotation_file(cfg)).read_text())
    whole = json.loads(Path(data, 'annotations/val.json').read_text())
    assert part['images'] == [whole['images'][0], whole['images'][2]]
    kept = [image['id'] for image in part['images']]
    assert part['annotations'] == [
        a for a in whole['annotations'] if a['image_id'] in kept
    ]
    assert part['categories'] == whole['categories']


def test_ready_made_views_at_the_scale_of_the_config(data):
    import tta_config

    cfg = config(data)
    tta_config.set_views(cfg, 'scales_flip')
    resizes, flips, *_ = cfg.tta_pipeline[1].transforms
    # the config tests at (128, 96); x 0.8 and 1.25
    assert [tuple(step.scale) for step in resizes] == [
        (102, 77),
        (128, 96),
        (160, 120),
    ]
    assert all(step.keep_ratio for step in resizes)
    assert [step.prob for step in flips] == [0, 1]
    cfg.test_dataloader.dataset.pipeline.pop(2)
    with pytest.raises(ValueError, match='--views flip needs'):
        tta_config.set_views(cfg, 'flip')
    cfg.pop('tta_pipeline')
    with pytest.raises(ValueError, match='has no tta_pipeline'):
        tta_config.set_views(cfg, 'config')


def test_classes_come_from_a_checkpoint_that_fits_the_data(data):
    import tta_config

    def fitted(classes):
        cfg = config(data)
        cfg.test_dataloader.dataset.metainfo.classes = ('cat', 'dog')
        cfg.model.roi_head.bbox_head.num_classes = 2
        meta = dict(dataset_meta=dict(classes=classes))
        tta_config.fit_classes(cfg, dict(meta=meta))
        return cfg

    digits = tuple('0123456789')
    cfg = fitted(digits)
    check_num_classes(cfg, loaders=['test_dataloader'])
    assert cfg.model.roi_head.bbox_head.num_classes == 10
    assert tuple(cfg.test_dataloader.dataset.metainfo.classes) == digits
    for classes in (('cat', 'dog'), ('0', 'dog'), ()):
        with pytest.raises(ValueError, match='not among the 10 categories'):
            check_num_classes(fitted(classes), loaders=['test_dataloader'])


def test_data_root_needs_one_to_replace(data, tmp_path):
    import tta_config

    path = tmp_path / 'config.py'
    path.write_text('test_dataloader = dict(dataset=dict())')
    with pytest.raises(ValueError, match='no top-level `data_root`'):
        tta_config.read_config(str(path), data, {})
    path.write_text('model = dict()')
    with pytest.raises(ValueError, match='no test_dataloader'):
        tta_config.read_config(str(path), None, {})


def test_options_of_the_config_go_to_their_mode(data):
    import tta_arms

    detector = MODELS.build(
        dict(_scope_='mmdet', **Config.fromfile(CONFIG).model)
    )

    def modes(**tta_model):
        cfg = config(data)
        cfg.tta_model = dict(type='mmfgl.RoITTAModel', **tta_model)
        arms = tta_arms.build_arms(cfg, detector)
        return [arms[f'roi_tta_{m}'].options for m in ('views', 'pyramid')]

    views, pyramid = modes(vote_iou=0.5)
    assert (views.mode, views.vote_iou) == ('views', 0.5)
    assert (pyramid.mode, pyramid.vote_iou) == ('pyramid', 0.65)
    views, pyramid = modes(mode='pyramid', vote_iou=0.5)
    assert (views.mode, views.vote_iou) == ('views', 0.65)
    assert (pyramid.mode, pyramid.vote_iou) == ('pyramid', 0.5)
    assert tta_arms.changed_options(pyramid_model(pyramid)) == dict(
        mode='pyramid', vote_iou=0.5
    )


def pyramid_model(options):
    return SimpleNamespace(options=options)


def test_average_precision_is_that_of_mmdet(data, tmp_path):
    import tta_measure

    path = f'{data}/annotations/val.json'
    content = json.loads(Path(path).read_text())
    classes = [category['name'] for category in content['categories']]
    rng = np.random.default_rng(0)
    ours = tta_measure.AveragePrecision(path, classes, tmp_path / 'a')
    theirs = CocoMetric(ann_file=path)
    theirs.dataset_meta = dict(classes=classes)
    for image in content['images']:
        found = [
            a for a in content['annotations'] if a['image_id'] == image['id']
        ]
        boxes = np.array([a['bbox'] for a in found])
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes + rng.normal(0, 1.5, boxes.shape)
        sample = dict(
            img_id=image['id'],
            ori_shape=(image['height'], image['width']),
            pred_instances=dict(
                bboxes=torch.tensor(boxes),
                scores=torch.tensor(rng.random(len(found))),
                labels=torch.tensor(
                    [a['category_id'] - 1 for a in found], dtype=torch.long
                ),
            ),
        )
        for metric in (ours, theirs):
            metric.process({}, [sample])
    got = ours.summary()
    expected = theirs.evaluate(len(content['images']))
    assert 5 < got['AP'] < 95
    names = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
    for name, their_name in zip(STATS, names, strict=True):
        value = expected[f'coco/bbox_{their_name}']
        scaled = value if value < 0 else 100 * value
        assert got[name] == pytest.approx(scaled, abs=0.051)


def test_no_detections(data, tmp_path):
    import tta_measure

    path = f'{data}/annotations/val.json'
    metric = tta_measure.AveragePrecision(path, tuple('01'), tmp_path / 'a')
    empty = dict(
        bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0)
    )
    metric.process(
        {}, [dict(img_id=1, ori_shape=(9, 9), pred_instances=empty)]
    )
    assert metric.summary() == dict.fromkeys(STATS, 0.0)


def test_medians_over_blocks():
    import tta_report

    times = dict(plain=[1, 2, 90], det_tta=[4, 8, 80], roi_tta_views=[2, 6, 8])
    precisions = {name: dict(AP=1.0) for name in times}
    results = tta_report.summarise(times, [2, 2, 2], precisions)
    assert results['roi_tta_pyramid'] is None
    views = results['roi_tta_views']
    assert views['seconds_per_image'] == 3
    assert views['time_to_plain'] == 2
    assert views['time_to_det_tta'] == 0.5


def test_table_without_a_contestant():
    import tta_report

    numbers = dict.fromkeys([*STATS, 'mask_AP'], 12.34)
    arm = dict(numbers, seconds_per_image=0.5, time_to_plain=1.0)
    results = dict(
        plain=arm,
        det_tta=None,
        roi_tta_views=arm,
        roi_tta_pyramid=arm,
        settings=dict(images=3),
    )
    lines = tta_report.markdown(results).split('\n')
    assert len({line.count('|') for line in lines[:6]}) == 1
    assert 'mask AP' in lines[0] and '12.3' in lines[2]
    assert lines[3].replace(' ', '') == '|DetTTAModel|' + '|' * 10
