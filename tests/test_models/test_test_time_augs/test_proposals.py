import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData

from mmfgl.models.test_time_augs.proposals import merge_proposals, proposing
from mmfgl.models.test_time_augs.views import View, ViewBatch

FRAME = View((1.0, 1.0), (40, 60))
CFG = dict(nms=dict(type='nms', iou_threshold=0.7), max_per_img=3)


def proposals(*rows):
    rows = torch.tensor(rows).reshape(-1, 5)
    return InstanceData(bboxes=rows[:, :4], scores=rows[:, 4])


def test_views_are_merged_by_nms():
    first = proposals([0, 0, 20, 20, 0.7], [30, 0, 50, 20, 0.6])
    second = proposals([0, 0, 20, 21, 0.9], [30, 20, 50, 40, 0.8])
    merged = merge_proposals([first, second], FRAME, CFG)
    expected = [[0, 0, 20, 21], [30, 20, 50, 40], [30, 0, 50, 20]]
    assert merged.bboxes.tolist() == expected
    torch.testing.assert_close(merged.scores, torch.tensor([0.9, 0.8, 0.6]))
    assert merged.labels.tolist() == [0, 0, 0]


def test_at_most_max_per_img_are_kept():
    first = proposals([0, 0, 9, 9, 0.2], [20, 0, 29, 9, 0.5])
    second = proposals([0, 20, 9, 29, 0.3], [20, 20, 29, 29, 0.4])
    merged = merge_proposals([first, second], FRAME, CFG)
    torch.testing.assert_close(merged.scores, torch.tensor([0.5, 0.4, 0.3]))


def test_boxes_are_clipped_to_the_frame():
    # a view may be padded, and proposals may lie in its padding
    merged = merge_proposals([proposals([-3, 10, 70, 50, 0.5])], FRAME, CFG)
    assert merged.bboxes.tolist() == [[0, 10, 60, 40]]


def test_no_proposals():
    merged = merge_proposals([proposals(), proposals()], FRAME, CFG)
    assert merged.bboxes.shape == (0, 4)
    assert merged.scores.shape == merged.labels.shape == (0,)


def view_batch(scale, flips):
    views = [View((scale, scale), (40, 60), flip) for flip in flips]
    return ViewBatch([], [], views)


@pytest.mark.parametrize(
    'kind, expected',
    [
        ('reference', [[False] * 2] * 3),
        # flips may differ between the images of a batch: each image counts
        ('scales', [[False, True], [True, False], [True, True]]),
        ('merged', [[True] * 2] * 3),
    ],
)
def test_views_that_propose(kind, expected):
    reference = view_batch(1.0, [None, 'horizontal'])
    others = [
        view_batch(1.0, ['horizontal'] * 2),
        view_batch(0.5, [None, None]),
        view_batch(2.0, [None, 'horizontal']),
    ]
    asked = [proposing(reference, batch, kind) for batch in others]
    assert asked == expected


@pytest.mark.parametrize('kind', ['scales', 'merged'])
def test_more_views_propose_more(tools, monkeypatch, kind):
    detector = tools.build_detector()
    detector.rpn_head.test_cfg.max_per_img = 300
    data = tools.view_batch(
        tools.make_images(), [(70, 50), (130, 110)], [None, 'horizontal']
    )
    calls = tools.record_rois(detector, monkeypatch)
    tools.tta(detector, data, proposals='reference')
    few = calls[0].given.bboxes
    calls.clear()
    tools.tta(detector, data, proposals=kind)
    many = calls[0].given.bboxes
    assert len(many) > len(few)
    assert (bbox_overlaps(few, many).amax(1) > 0.7).all()


@pytest.mark.parametrize('kind', ['scales', 'merged'])
def test_given_proposals_are_taken_as_they_are(tools, monkeypatch, kind):
    detector = tools.build_detector()
    data = tools.view_batch(tools.make_images()[:1], [None, (64, 64)])
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0], [8.0, 20.0, 40.0, 50.0]])
    for view in data['data_samples']:
        view[0].proposals = InstanceData(bboxes=boxes)
    calls = tools.record_rois(detector, monkeypatch)
    tools.tta(detector, data, proposals=kind)
    assert torch.equal(calls[0].given.bboxes, boxes)
