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
    # a view may be padded, and proposals may lie in its padding
    second = proposals([-3, 0, 20, 21, 0.9], [30, 20, 70, 50, 0.8])
    second = InstanceData.cat([second, proposals([0, 30, 9, 39, 0.1])])
    merged = merge_proposals([first, second], FRAME, CFG)
    # inside the frame, best first, at most max_per_img
    expected = [[0, 0, 20, 21], [30, 20, 60, 40], [30, 0, 50, 20]]
    assert merged.bboxes.tolist() == expected
    torch.testing.assert_close(merged.scores, torch.tensor([0.9, 0.8, 0.6]))
    assert merged.labels.tolist() == [0, 0, 0]


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


def test_slices_propose_what_they_show_whole(tools, monkeypatch):
    detector = tools.build_detector()
    detector.rpn_head.test_cfg.max_per_img = 300
    calls = tools.record_rois(detector, monkeypatch)
    # in pixels of the slice, which is shown twice as large: at the border of
    # the image, inside, an object that the cut divides, and another one
    seen = [[2, 2, 30, 30, 0.7], [50, 30, 80, 60, 0.8]]
    seen += [[70, 10, 96, 30, 0.6], [10, 40, 40, 64, 0.5]]

    def of_the_slice(feats, samples, rescale):
        whole = samples[0].slice_window[2:] == (96, 64)
        return [proposals([1, 1, 20, 30, 0.9]) if whole else proposals(*seen)]

    detector.rpn_head.predict = of_the_slice
    data = tools.view_batch(
        tools.make_images()[:1], [(96, 64)], windows=[(0, 0, 0.5, 0.5)]
    )
    tools.tta(detector, data)
    expected = [[1, 1, 20, 30], [25, 15, 40, 30], [1, 1, 15, 15]]
    assert calls[0].given.bboxes.tolist() == expected
