import pytest
import torch
from mmdet.structures.bbox import bbox_overlaps
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


def test_backbone_and_rpn_run_no_more_than_needed(tools, monkeypatch):
    detector = tools.build_detector()
    asked, predict = [], detector.rpn_head.predict

    def record(feats, samples, **kwargs):
        asked.append([(s.img_shape[1], s.flip) for s in samples])
        return predict(feats, samples, **kwargs)

    monkeypatch.setattr(detector.rpn_head, 'predict', record)
    data = tools.view_batch(
        tools.make_images(), [(96, 96), (50, 50)], [None, 'horizontal']
    )
    tools.tta(detector, data)
    assert detector.backbone.calls == [2, 2, 2, 2]
    # both images once a scale, the reference first, never mirrored
    assert asked == [[(96, False), (77, False)], [(50, False), (40, False)]]


def test_more_views_propose_more(tools, monkeypatch):
    detector = tools.build_detector()
    detector.rpn_head.test_cfg.max_per_img = 300
    calls = tools.record_rois(detector, monkeypatch)
    images = tools.make_images()
    tools.plain(detector, tools.plain_batch(images, (130, 110)))
    few = calls[0].given.bboxes
    calls.clear()
    tools.tta(detector, tools.view_batch(images, [(70, 50), (130, 110)]))
    many = calls[0].given.bboxes
    assert len(many) > len(few)
    assert (bbox_overlaps(few, many).amax(1) > 0.7).all()


def test_slices_propose_what_they_show_whole(tools, monkeypatch):
    detector = tools.build_detector()
    detector.rpn_head.test_cfg.max_per_img = 300
    calls = tools.record_rois(detector, monkeypatch)

    def of_the_slice(feats, samples, rescale):
        (left, top, right, bottom) = samples[0].slice_window
        if (right, bottom) == (96, 64):
            return [proposals([1, 1, 20, 30, 0.9])]
        # in pixels of the slice, which is shown twice as large
        return [
            proposals(
                [2, 2, 30, 30, 0.7],  # at the border of the image
                [50, 30, 80, 60, 0.8],
                [70, 10, 96, 30, 0.6],  # the cut divides an object
                [10, 40, 40, 64, 0.5],
            )
        ]

    detector.rpn_head.predict = of_the_slice
    data = tools.view_batch(
        tools.make_images()[:1], [(96, 64)], windows=[(0, 0, 0.5, 0.5)]
    )
    tools.tta(detector, data)
    found = calls[0].given.bboxes
    expected = [[1, 1, 20, 30], [25, 15, 40, 30], [1, 1, 15, 15]]
    assert found.tolist() == expected


@pytest.mark.parametrize('windows', [[], [(0, 0, 0.6, 0.6)]])
def test_given_proposals_are_taken_as_they_are(tools, monkeypatch, windows):
    detector = tools.build_detector()
    data = tools.view_batch(
        tools.make_images()[:1], [None, (64, 64)], windows=windows
    )
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0], [8.0, 20.0, 40.0, 50.0]])
    for view in data['data_samples']:
        view[0].proposals = InstanceData(bboxes=boxes)
    calls = tools.record_rois(detector, monkeypatch)
    tools.tta(detector, data)
    assert torch.equal(calls[0].given.bboxes, boxes)
