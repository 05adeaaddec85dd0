import torch
from mmengine.structures import InstanceData

from mmfgl.models.test_time_augs.proposals import merge_proposals
from mmfgl.models.test_time_augs.views import View

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
