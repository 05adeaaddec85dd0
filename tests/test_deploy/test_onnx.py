"""Detectors in ONNX Runtime give the detections of PyTorch."""

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from mmengine.config import Config

from mmfgl.deploy import (
    DetectorGraph,
    check_supported,
    compare_on_images,
    export,
    preprocessing,
    to_onnx,
)
from mmfgl.deploy.onnx import OTHER, TRACED, noise, open_session
from mmfgl.registry import MODELS
from mmfgl.testing import (
    randomise_weights,
    tiny_coco,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
)
from mmfgl.utils.launch import replace_data_root

pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')

ROOT = Path(__file__).parents[2]
CLASSES = tuple('0123456789')
SOFT_NMS = dict(type='soft_nms', iou_threshold=0.5)


def plain_cfg():
    """Faster R-CNN with one box a class, NMS of few candidates."""
    cfg = tiny_plain_detector_cfg(len(CLASSES))
    cfg.roi_head.bbox_head.reg_class_agnostic = False
    return cfg


def fgl_cfg():
    """FGL Faster R-CNN with box voting and the selector's border filter."""
    return tiny_fgl_cfg(len(CLASSES), bbox_head=dict(voting_iou=0.6))


@pytest.fixture(scope='module', params=[plain_cfg, fgl_cfg])
def exported(request, tmp_path_factory):
    """Config, checkpoint and ONNX file of a detector, and an image."""
    folder = tmp_path_factory.mktemp('export')
    data = tiny_coco(folder / 'digits', 1, 1, 1)
    model = request.param()
    cfg = Config.fromfile(ROOT / 'tests/test_tools/tiny_detector.py')
    replace_data_root(cfg, str(data))
    cfg.model = model
    cfg.dump(folder / 'tiny.py')
    # scores that are saturated would be equal
    built = randomise_weights(MODELS.build(model), std=0.1)
    meta = dict(dataset_meta=dict(classes=CLASSES))
    checkpoint = folder / 'tiny.pth'
    torch.save(dict(state_dict=built.state_dict(), meta=meta), checkpoint)
    export(folder / 'tiny.py', checkpoint, check=[data / 'val'])
    return folder, str(next((data / 'val').iterdir()))


def test_equal_at_another_size(exported):
    folder, path = exported
    model = init_detector(
        str(folder / 'tiny.py'), str(folder / 'tiny.pth'), device='cpu'
    )
    detector = runpy.run_path(str(ROOT / 'tools/deploy/onnx_predict.py'))
    detector = detector['Detector'](str(folder / 'model.onnx'))
    assert detector.classes == list(CLASSES)
    image = cv2.imread(path)
    for picture in (image, image[:37, :], cv2.resize(image, (50, 119))):
        found = inference_detector(model, picture).pred_instances
        boxes, scores, labels = detector(picture)
        assert len(found) > 3
        assert labels.tolist() == found.labels.tolist()
        np.testing.assert_allclose(scores, found.scores, atol=1e-4)
        np.testing.assert_allclose(boxes, found.bboxes, atol=1e-3)


def test_check_prints_the_differences(exported, capsys):
    folder, path = exported
    kept = json.loads((folder / 'model.check.json').read_text())
    assert kept['command'].startswith(f'mmfgl export {folder}/tiny.py ')
    assert kept['metrics']['images'] == 1
    assert kept['metrics']['matches'] == kept['metrics']['torch'] > 3
    cfg = Config.fromfile(folder / 'tiny.py')
    model = init_detector(cfg, str(folder / 'tiny.pth'), device='cpu')
    content = (folder / 'model.onnx').read_bytes()
    damaged = folder / 'damaged.jpg'
    damaged.write_bytes(Path(path).read_bytes()[:200])
    capsys.readouterr()
    images = [path, str(damaged), path]
    same = compare_on_images(model, cfg, content, images)
    assert f'left out {damaged}: ' in capsys.readouterr().out
    assert same.images == 2
    assert 6 < same.torch == same.onnx == same.matches
    assert same.box < 1e-3 and same.score < 1e-4
    # other weights give other detections, and the sentence says so
    randomise_weights(model, std=0.1, seed=1)
    other = compare_on_images(model, cfg, content, [path])
    assert other.matches < other.torch
    assert f'{other.matches} detections match' in str(other)


def test_the_example_refuses_deeper_images_and_takes_thin_ones(
    exported, tmp_path, monkeypatch, capsys
):
    image = str(tmp_path / 'deep.png')
    cv2.imwrite(image, np.full((20, 30), 4080, np.uint16))
    example = ROOT / 'tools/deploy/onnx_predict.py'
    thin = str(tmp_path / 'thin.png')
    cv2.imwrite(thin, np.full((3, 2000), 40, np.uint8))
    words = [exported[0] / 'model.onnx', image, thin]
    words += ['--out', tmp_path / 'out']
    monkeypatch.setattr('sys.argv', [str(example), *map(str, words)])
    runpy.run_path(str(example), run_name='__main__')
    assert f'skipped, more than 8 bits a value: {image}' in (
        capsys.readouterr().err
    )
    file = tmp_path / 'out/predictions.json'
    assert list(json.loads(file.read_text())) == [thin]


def test_nothing_found():
    """Of what is traced some is found, of what is run nothing."""
    model = randomise_weights(MODELS.build(fgl_cfg()), std=0.1).eval()
    graph, images = DetectorGraph(model), [noise(TRACED), noise(OTHER) * 0.1]
    with torch.no_grad():
        best = [float(graph(image)[1].max()) for image in images]
    assert best[0] > best[1]
    model.test_cfg.rcnn.score_thr = sum(best) / 2
    session = open_session(to_onnx(model, {}))
    counts = []
    for image in images:
        boxes, scores, labels = session.run(None, {'image': image.numpy()})
        assert boxes.shape == (len(scores), 4)
        assert scores.shape == labels.shape
        counts.append(len(boxes))
    assert counts[0] > counts[1] == 0


GRID = dict(
    rpn_head=None,
    region_proposer=dict(type='mmfgl.GridRegions'),
    test_cfg=dict(rcnn=dict(score_thr=0.0, nms=SOFT_NMS, max_per_img=5)),
    train_cfg=None,
)


@pytest.mark.parametrize(
    ('model', 'reason'),
    [
        (tiny_fgl_cfg(num_targets=4), 'selector.num_targets=4'),
        (tiny_fgl_cfg(selector=dict(mode='drop')), "selector.mode='drop'"),
        (tiny_fgl_cfg(**GRID), 'GridRegions, not of an RPN; .*soft_nms'),
    ],
    ids=['targets', 'drop', 'grid'],
)
def test_refused(model, reason):
    with pytest.raises(ValueError, match=f'this detector has .*{reason}'):
        check_supported(MODELS.build(model))


def test_other_parts_are_refused():
    cfg = tiny_plain_detector_cfg()
    cfg.rpn_head.bbox_coder = dict(
        type='DeltaXYWHBBoxCoder', clip_border=False
    )
    extractor = dict(cfg.roi_head.bbox_roi_extractor)
    extractor.pop('finest_scale', None)
    extractor.update(type='GenericRoIExtractor', aggregation='sum')
    cfg.roi_head.bbox_roi_extractor = extractor
    words = r'clip_border=False \(RPNHead\); the RoI extractor GenericRoIExt'
    with pytest.raises(ValueError, match=words):
        check_supported(MODELS.build(cfg))


def test_masks_are_refused():
    cfg = tiny_plain_detector_cfg()
    extractor = cfg.roi_head.bbox_roi_extractor
    cfg.roi_head.mask_roi_extractor = extractor
    cfg.roi_head.mask_head = dict(
        type='mmdet.FCNMaskHead', num_convs=1, in_channels=16, num_classes=3
    )
    cfg.roi_head.bbox_roi_extractor = dict(
        extractor, roi_layer=dict(type='RoIPool', output_size=3)
    )
    with pytest.raises(ValueError, match='a mask head; the RoI layer RoIPool'):
        check_supported(MODELS.build(cfg))


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (dict(type='Pad', size=(96, 96)), 'step Pad'),
        (dict(type='Resize', scale_factor=2), "'scale_factor': 2"),
    ],
    ids=['pad', 'factor'],
)
def test_preprocessing_that_the_file_cannot_state(step, message):
    cfg = Config.fromfile(ROOT / 'tests/test_tools/tiny_detector.py')
    cfg.test_dataloader.dataset.pipeline.insert(2, step)
    with pytest.raises(ValueError, match=message):
        preprocessing(cfg)


def test_a_config_without_a_test():
    with pytest.raises(ValueError, match='has no test_dataloader'):
        preprocessing(Config(dict(model=dict())))


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.py does not exist'):
        export(tmp_path / 'none.py', 'none.pth')
    with pytest.raises(ValueError, match='give its checkpoint too'):
        export(ROOT / 'tests/test_tools/tiny_detector.py')
    with pytest.raises(FileNotFoundError, match='no trained detector'):
        export(tmp_path)
