import copy

import pytest
import torch

from mmfgl.models.test_time_augs import RoITTAModel, RoITTAOptions
from mmfgl.models.test_time_augs.passes import plan_passes
from mmfgl.models.test_time_augs.scoring import roi_weights, shifted_levels
from mmfgl.models.test_time_augs.views import View, ViewBatch


def test_levels_off_the_pyramid_are_left_out(tools, monkeypatch):
    detector = tools.build_detector()
    calls = tools.record_rois(detector, monkeypatch)
    data = tools.view_batch(tools.make_images()[:1], [None])
    expected = tools.plain(detector, {k: v[0] for k, v in data.items()})
    extractor = detector.roi_head.bbox_roi_extractor
    boxes = calls[0].given.bboxes
    rois = torch.cat([boxes[:, :1] * 0, boxes], dim=1)
    finest = int((extractor.map_roi_levels(rois, 3) == 0).sum())
    assert 0 < finest < len(boxes)
    calls.clear()
    options = dict(mode='pyramid', rescore_thr=0)
    tools.tta(detector, data, level_shifts=[-1, 0], **options)
    assert [len(c.given) for c in calls] == [len(boxes), len(boxes) - finest]
    calls.clear()
    # three levels: nothing lies three above any of them
    results = tools.tta(detector, data, level_shifts=[0, 3], **options)
    assert len(calls) == 1
    tools.assert_same(results, expected)


def test_linear_weights_of_levels(tools):
    extractor = tools.build_detector().roi_head.bbox_roi_extractor
    # three levels for sides of 12-24, 24-48, 48-96 pixels; squares of side
    sides = 12 * 2 ** torch.tensor([-1, 0.2, 0.9, 1.0, 1.5, 2.25, 4.0])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    frame = View((1.0, 1.0), (200, 200))
    batch = ViewBatch([], [], [frame])
    passes = plan_passes([batch], RoITTAOptions(mode='pyramid'))
    weights = roi_weights(passes, boxes, frame, 0, extractor)
    shares = weights / weights.sum(0)
    expected = torch.tensor(
        [
            [1, 1, 0.6, 0.5, 1, 0.75, 1],
            [0, 0, 0.4, 0.5, 0, 0.25, 0],
        ]
    )
    torch.testing.assert_close(shares, expected, rtol=0, atol=1e-4)


def record_levels(extractor):
    """Level of each RoI in every call of an RoI extractor."""
    calls, forward = [], extractor.forward

    def record(feats, rois):
        calls.append((rois, extractor.map_roi_levels(rois, len(feats))))
        return forward(feats, rois)

    extractor.forward = record
    return calls


def test_pyramid_pools_from_neighbouring_levels(tools):
    detector = tools.build_detector(masks=True)
    head = detector.roi_head
    boxes = record_levels(head.bbox_roi_extractor)
    masks = record_levels(head.mask_roi_extractor)
    data = tools.view_batch(tools.make_images(), [None])
    results = tools.tta(
        detector, data, mode='pyramid', level_shifts=[-1, 0, 1]
    )
    assert all(len(r.pred_instances) > 0 for r in results)
    for calls, extractor in (
        (boxes, head.bbox_roi_extractor),
        (masks, head.mask_roi_extractor),
    ):
        assert len(calls) == 3
        for (rois, levels), shift in zip(calls, (0, -1, 1), strict=True):
            own = extractor.map_roi_levels(rois, 3)
            assert torch.equal(levels, (own + shift).clamp(0, 2))
        assert len(set(calls[0][1].tolist())) > 1


def test_extractors_are_restored_after_an_error(tools):
    detector = tools.build_detector()
    head = detector.roi_head
    data = tools.view_batch(tools.make_images(), [None])
    expected = tools.plain(detector, {k: v[0] for k, v in data.items()})
    head.mask_roi_extractor = head.bbox_roi_extractor  # shared: moved once
    with (
        pytest.raises(ZeroDivisionError),
        shifted_levels(head, 1),
    ):
        rois = torch.tensor([[0, 0.0, 0.0, 30.0, 30.0]])
        assert head.bbox_roi_extractor.map_roi_levels(rois, 3).tolist() == [2]
        raise ZeroDivisionError
    tools.assert_same(
        tools.plain(detector, {k: v[0] for k, v in data.items()}), expected
    )
    assert 'map_roi_levels' not in vars(head.bbox_roi_extractor)


def test_equal_levels_give_plain_prediction(tools):
    detector = tools.build_detector(masks=True)
    head = detector.roi_head
    for extractor in (head.bbox_roi_extractor, head.mask_roi_extractor):
        extractor.map_roi_levels = lambda rois, n: torch.ones(len(rois)).long()
        for layer in extractor.roi_layers:
            layer.spatial_scale = 1 / 8
    features = detector.extract_feat
    detector.extract_feat = lambda x: (features(x)[1],) * 4
    data = tools.view_batch(tools.make_images(), [None])
    expected = tools.plain(detector, {k: v[0] for k, v in data.items()})
    model = RoITTAModel(detector, mode='pyramid', neighbour_iou=None)
    # hide the test's own patch from the one that moves levels
    tools.assert_same(
        model.test_step(copy.deepcopy(data)), expected, exact=False
    )


def test_nearest_level_by_size(tools):
    detector = tools.build_detector(masks=True)
    head = detector.roi_head
    boxes = record_levels(head.bbox_roi_extractor)
    masks = record_levels(head.mask_roi_extractor)
    data = tools.view_batch(tools.make_images(), [None])
    tools.tta(detector, data, mode='pyramid')
    for calls in (boxes, masks):
        assert len(calls) == 2
        rois, levels = calls[1]
        sides = (rois[:, 3:] - rois[:, 1:3]).prod(1).sqrt()
        place = torch.log2(sides / 12)
        # the second nearest of the levels' middles 0.5, 1.5, 2.5
        middles = torch.tensor([0.5, 1.5, 2.5])
        gaps = (place[:, None] - middles).abs()
        second = gaps.argsort(dim=1)[:, 1]
        inside = (place > 0.5) & (place < 2.5)
        assert inside.sum() > 3
        assert torch.equal(levels[inside], second[inside])
