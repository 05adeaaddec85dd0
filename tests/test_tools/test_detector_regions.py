"""propose_regions.py --detector, with tiny detectors of random weights."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import Resize
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from region_search.detector_regions import DetectorRegions

from mmfgl.datasets.region_file import write_region_file
from mmfgl.registry import MODELS
from tools.dataset_converters import propose_regions as tool

DETECTOR = str(Path(__file__).with_name('tiny_detector.py'))


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Config and checkpoint of a tiny detector, and of its pretraining."""
    folder = tmp_path_factory.mktemp('models')
    cfg = Config.fromfile(DETECTOR)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    checkpoint = str(folder / 'model.pth')
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    pretraining = folder / 'retod.py'
    pretraining.write_text(
        f"_base_ = '{DETECTOR}'\n"
        'detector = _base_.model\n'
        "model = dict(_delete_=True, type='mmfgl.ReToD', detector=detector)\n"
        "views = dict(type='mmfgl.RegionViews', view_size=96)\n"
        'train_dataloader = dict(_delete_=True, dataset=dict('
        "type='x', pipeline=[views]))\n"
        'test_dataloader = None\n'
    )
    return dict(
        detector=(DETECTOR, checkpoint), retod=(str(pretraining), checkpoint)
    )


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'photos'
    root.mkdir()
    rng = np.random.default_rng(0)
    for name in ('a.png', 'b.png'):
        img = rng.integers(0, 256, (60, 80, 3), np.uint8)
        cv2.imwrite(str(root / name), cv2.blur(img, (9, 9)))
    return root


def run(folder, *arguments, out='r.json'):
    out = folder.parent / out
    args = [str(folder), '--out', str(out), *map(str, arguments)]
    counts = tool.run(tool.parse_args(args))
    return counts, json.loads(out.read_text())


@pytest.mark.parametrize('kind', ['retod', 'detector'])
def test_boxes_of_a_detector(models, folder, kind):
    options = ('--cfg-options', 'max_regions=4', 'score_thr=0.0')
    call = ('--detector', *models[kind], *options)
    counts, content = run(folder, *call)
    assert counts['images'] == 2 and 2 <= counts['regions'] <= 8
    for note in content['annotations']:
        x, y, w, h = note['bbox']
        assert x >= 0 and y >= 0 and x + w <= 80.01 and y + h <= 60.01
        assert w > 0 and h > 0 and note['category_id'] == 1
    # kept, unless the checkpoint is another one
    assert run(folder, *call)[0]['cached'] == 2
    config, checkpoint = models[kind]
    other = folder.parent / 'model.pth'
    state = torch.load(checkpoint)['state_dict']
    torch.save(dict(state_dict=state, meta=dict(other=1)), other)
    call = ('--detector', config, other, *options)
    again, same = run(folder, *call)
    assert again['cached'] == 0
    assert same['annotations'] == content['annotations']


def test_frame_of_the_boxes(models, monkeypatch):
    """A box keeps its place, whatever the size, in the mirror too."""
    img = np.zeros((60, 80, 3), np.uint8)
    img[10:30, 50:70] = 255

    def brightest(self, inputs, data_samples):
        # the network's input, normalised: what is bright
        rows, cols = torch.where(inputs[0].amin(0) > 1)
        edges = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        boxes = torch.stack(edges).float()[None]
        return InstanceData(bboxes=boxes, scores=torch.ones(1))

    monkeypatch.setattr(DetectorRegions, '_run', brightest)
    for flip in (False, True):
        regions = DetectorRegions(*models['retod'], flip=flip)
        assert (regions.scale, regions.keep_ratio) == ((96, 96), True)
        boxes = regions.propose(dict(img=img, img_shape=(60, 80)))
        np.testing.assert_allclose(boxes, [[50, 10, 70, 30]], atol=1.5)


@pytest.mark.parametrize('keep_ratio', [True, False])
@pytest.mark.parametrize('shape', [(60, 80), (80, 60), (70, 70), (10, 200)])
def test_the_size_is_that_of_the_test(
    models, tmp_path, monkeypatch, shape, keep_ratio
):
    """As mmdet's Resize makes it, of an upright image too."""
    config = tmp_path / 'child.py'
    cfg = Config.fromfile(DETECTOR)
    (step,) = (
        s
        for s in cfg.test_dataloader.dataset.pipeline
        if s['type'] == 'Resize'
    )
    step.keep_ratio = keep_ratio
    cfg.dump(config)
    seen = []

    def record(self, inputs, data_samples):
        seen.append(data_samples[0].img_shape)
        return InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))

    monkeypatch.setattr(DetectorRegions, '_run', record)
    regions = DetectorRegions(str(config), models['detector'][1])
    regions.detect(np.zeros((*shape, 3), np.uint8))
    resized = Resize(scale=tuple(step.scale), keep_ratio=keep_ratio)(
        dict(img=np.zeros((*shape, 3), np.uint8))
    )
    assert seen == [resized['img_shape'][:2]]


def test_a_one_stage_detector(models, tmp_path):
    """All of it is loaded; of another checkpoint what is missing is told."""
    base = tmp_path / 'base.py'
    base.write_text("_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'")
    cfg = Config.fromfile(base)
    cfg.model.backbone.update(depth=18, base_channels=8, stem_channels=8)
    cfg.model.backbone.init_cfg = None
    cfg.model.neck.update(in_channels=[8, 16, 32, 64], out_channels=16)
    cfg.model.bbox_head.update(in_channels=16, feat_channels=16)
    cfg.test_dataloader = Config.fromfile(DETECTOR).test_dataloader
    cfg.dump(tmp_path / 'retina.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    state, path = model.state_dict(), str(tmp_path / 'retina.pth')
    torch.save(dict(state_dict=state), path)
    torch.manual_seed(1)
    call = str(tmp_path / 'retina.py'), path
    loaded = DetectorRegions(*call).model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    some = {k: v for k, v in state.items() if not k.startswith('bbox_head')}
    torch.save(dict(state_dict=some), path)
    with pytest.raises(RuntimeError, match='bbox_head: missing'):
        DetectorRegions(*call)


def test_a_base_that_has_changed(models, folder, tmp_path):
    config = tmp_path / 'child.py'
    config.write_text("_base_ = './base.py'\n")
    text = Path(DETECTOR).read_text()
    (tmp_path / 'base.py').write_text(text)
    call = ('--detector', config, models['detector'][1])
    run(folder, *call)
    assert run(folder, *call)[0]['cached'] == 2
    (tmp_path / 'base.py').write_text(text.replace('(128, 96)', '(96, 64)'))
    assert run(folder, *call)[0]['cached'] == 0


def test_images_decoded_at_a_reduced_size(models, monkeypatch):
    regions = DetectorRegions(*models['detector'], score_thr=0.0)
    found = InstanceData(
        bboxes=torch.tensor([[10.0, 20, 30, 40]]), scores=torch.ones(1)
    )
    monkeypatch.setattr(regions, 'detect', lambda img: found)
    img = np.zeros((60, 80, 3), np.uint8)
    info = dict(img=img, img_shape=(120, 160))
    assert regions.propose(info).tolist() == [[20.0, 40, 60, 80]]


def test_snap_and_join(models, folder, monkeypatch):
    img = cv2.imread(str(folder / 'a.png'))
    info = dict(img=img, img_path=str(folder / 'a.png'), img_shape=(60, 80))
    boxes = torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60], [2, 2, 20, 20]])
    scores = torch.tensor([0.9, 0.8, 0.85])

    class Search:
        img_shape = (60, 80)
        boxes = np.array([[0, 0, 21, 20], [60, 0, 80, 20], [41, 40, 60, 60]])
        labels = np.zeros(3, int)

    file = str(folder.parent / 'search.json')
    write_region_file(file, [dict(id=1, file_name='a.png')], [Search])
    found = InstanceData(bboxes=boxes, scores=scores)
    monkeypatch.setattr(DetectorRegions, 'detect', lambda *args: found)

    def propose(**options):
        return DetectorRegions(*models['retod'], **options).propose(info)

    # overlapping ones are left out, as are those of low scores
    plain = propose()
    assert plain.tolist() == boxes[:2].tolist()
    assert propose(max_regions=1).tolist() == boxes[:1].tolist()
    assert propose(score_thr=0.85).tolist() == boxes[:1].tolist()
    snapped = propose(snap=file)
    assert snapped.tolist() == Search.boxes[[0, 2]].tolist()
    # in turn, without what overlaps a better one
    joined = propose(join=file)
    expected = [boxes[0].tolist(), boxes[1].tolist(), [60, 0, 80, 20]]
    assert joined.tolist() == expected


def test_checkpoint_that_does_not_fit(models, folder, tmp_path):
    config, checkpoint = models['retod']
    state = torch.load(checkpoint)['state_dict']
    state = {k: v for k, v in state.items() if not k.startswith('rpn_head')}
    path = tmp_path / 'bad.pth'
    torch.save(dict(state_dict=state), path)
    out = str(tmp_path / 'r.json')
    call = [str(folder), '--out', out, '--detector', config, str(path)]
    with pytest.raises(SystemExit, match='rpn_head: missing'):
        tool.main(call)
