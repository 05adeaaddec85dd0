"""Faults that are told before a run, or by name; see test_training.py."""

import json

import pytest
import torch

from mmfgl.registry import MODELS
from tools.benchmarks.faults_runs import detection, pretraining

pytestmark = pytest.mark.faults


@pytest.fixture
def weights(data, tmp_path):
    """A checkpoint of random weights: a detector before its training."""
    model = MODELS.build(detection(data).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'random.pth')
    return tmp_path / 'random.pth'


def test_misspelt_setting(bench, data):
    """Misspelt top-level setting: an error gives the right name."""
    cfg = detection(data)
    cfg.train_cgf = dict(max_iters=1)
    bench.stops(bench.run(cfg, 'run'), 'train_cgf', 'did you mean train_cfg')


def test_misspelt_option(bench, data):
    """Misspelt --cfg-options: an error gives the right name."""
    option = ('--cfg-options', 'model.roi_head.bbox_head.num_clases=10')
    result = bench.run(detection(data), 'run', *option)
    bench.stops(result, 'num_clases', 'did you mean num_classes')


def test_launcher_alone(bench, data):
    """--launcher pytorch without torchrun: an error says how to start."""
    result = bench.run(detection(data), 'run', '--launcher', 'pytorch')
    bench.stops(result, 'RANK', 'tools/dist_train.sh')


def test_large_batch(bench, data):
    """Batch larger than the data set: an error says how many it needs."""
    cfg = pretraining(data)
    cfg.train_dataloader.update(
        batch_size=64,
        drop_last=True,
        sampler=dict(type='DefaultSampler', shuffle=True),
    )
    bench.stops(bench.run(cfg, 'run'), 'takes 64 images', 'at most 4')


def test_no_detection(bench, data, weights):
    """A detector that finds nothing: AP 0, the run ends."""
    cfg = detection(data)
    cfg.model.test_cfg.rcnn.score_thr = 0.999
    result = bench.run(cfg, 'test', weights, tool='test.py')
    bench.ends(result, r'coco/bbox_mAP: 0\.0000')


def test_annotation_id_zero(bench, data, weights):
    """Annotation ids from 0, or text: the test has a result."""
    file = data / 'annotations/val.json'
    content = json.loads(file.read_text())
    for index, annotation in enumerate(content['annotations']):
        annotation['id'] = f'a{index}' if index else 0
    file.write_text(json.dumps(content))
    result = bench.run(detection(data), 'test', weights, tool='test.py')
    bench.ends(result, r'coco/bbox_mAP: [01]\.\d+')


def test_same_file_names(bench, data, weights):
    """Pictures of images of one name in different folders: all are kept."""
    file = data / 'annotations/val.json'
    content = json.loads(file.read_text())
    for index, image in enumerate(content['images']):
        name = data / 'val' / f'cam{index}' / '1.jpg'
        name.parent.mkdir()
        (data / 'val' / image['file_name']).rename(name)
        image['file_name'] = f'cam{index}/1.jpg'
    file.write_text(json.dumps(content))
    flags = (weights, '--show-dir', 'vis')
    code, output = bench.run(detection(data), 'test', *flags, tool='test.py')
    found = list((bench.folder / 'test').glob('*/vis/*/1.jpg'))
    bench.seen(f'{len(found)} pictures of {len(content["images"])} images')
    assert code == 0 and len(found) == len(content['images']), output[-2000:]
