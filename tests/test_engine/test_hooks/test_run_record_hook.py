import json
import sys
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import HistoryBuffer, MessageHub
from torch.utils.data import DataLoader

from mmfgl.engine.hooks import RunRecordHook


class Images(list):
    """A data set with category ids."""

    cat_ids = (7, 9)


@pytest.fixture
def runner(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tools/test.py', 'my config.py'])
    hub = MessageHub('run-record')
    hub.log_scalars['test/time'] = HistoryBuffer([0.4, 0.2], [1, 1])
    # the last batch is of one
    loader = DataLoader(Images([0, 1, 2]), batch_size=2)
    return SimpleNamespace(
        work_dir=str(tmp_path),
        cfg=Config(dict(model=dict(type='x'))),
        test_evaluator=Evaluator([]),
        test_dataloader=loader,
        message_hub=hub,
    )


def samples():
    boxes = torch.tensor([[1.0, 2, 11, 22], [0, 0, float('nan'), 5]])
    found = dict(bboxes=boxes, scores=torch.tensor([0.75, 0.5]))
    found |= dict(labels=torch.tensor([1, 0]))
    none = dict(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
    none |= dict(labels=torch.zeros(0, dtype=torch.long))
    padding = dict(img_id='a', pred_instances=found)
    yield padding
    yield dict(img_id='b', pred_instances=none)
    yield padding


def test_what_a_test_leaves(runner, tmp_path):
    hook = RunRecordHook()
    hook.before_run(runner)
    hook.before_test(runner)
    hook.before_test(runner)
    (metric,) = runner.test_evaluator.metrics
    metric.process({}, list(samples()))
    # two images; the third sample fills the last batch up
    assert runner.test_evaluator.evaluate(2) == {}
    rows = json.loads((tmp_path / 'predictions.bbox.json').read_text())
    box = [1.0, 2.0, 10.0, 20.0]
    assert rows == [dict(image_id='a', category_id=9, bbox=box, score=0.75)]
    hook.after_test_epoch(runner, {'coco/bbox_mAP': torch.tensor(0.5)})
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics == {
        'coco/bbox_mAP': 0.5,
        'seconds_per_image': pytest.approx((0.4 + 0.2) / 3),
    }
    record = json.loads((tmp_path / 'run.json').read_text())
    assert record['command'] == "python tools/test.py 'my config.py'"
    assert record['versions']['mmdet'][0].isdigit()
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert cfg.model.type == 'x'


def test_other_data_has_no_predictions(runner):
    dataset = runner.test_dataloader.dataset
    dataset.cat_ids = None
    RunRecordHook().before_test(runner)
    assert not runner.test_evaluator.metrics
    dataset.datasets = [SimpleNamespace(cat_ids=[1])] * 2
    RunRecordHook().before_test(runner)
    assert not runner.test_evaluator.metrics
