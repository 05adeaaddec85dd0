import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

FLIPS = [None, 'horizontal']
KINDS = [dict(), dict(agnostic=True), dict(masks=True)]


def test_no_proposals(tools):
    detector = tools.build_detector(masks=True)
    detector.rpn_head.test_cfg.min_bbox_size = 1000
    data = tools.view_batch(tools.make_images(), [None, (64, 64)], FLIPS[:2])
    for options in (dict(), dict(proposals='merged'), dict(mode='pyramid')):
        for result in tools.tta(detector, data, **options):
            _assert_empty(result)


def _assert_empty(result):
    assert isinstance(result, DetDataSample)
    found = result.pred_instances
    assert isinstance(found, InstanceData)
    assert found.bboxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.labels.dtype == torch.long
    if 'masks' in found:
        assert found.masks.shape == (0, *result.ori_shape)


def test_no_proposals_in_one_image_of_two(tools):
    detector = tools.build_detector()
    data = tools.view_batch(tools.make_images(), [None, (64, 64)], FLIPS[:2])
    some = torch.tensor([[4.0, 4.0, 30.0, 40.0], [8.0, 20.0, 40.0, 50.0]])
    for view in data['data_samples']:
        for sample, boxes in zip(view, (some, some[:0]), strict=True):
            sample.proposals = InstanceData(bboxes=boxes)
    first, second = tools.tta(detector, data)
    assert len(first.pred_instances) > 0
    _assert_empty(second)


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_no_detections(tools, kind):
    detector = tools.build_detector(**kind)
    data = tools.view_batch(tools.make_images(), [None, (64, 64)], FLIPS[:2])
    for result in tools.tta(detector, data, tta_cfg=dict(score_thr=1.0)):
        _assert_empty(result)
