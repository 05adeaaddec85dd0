"""RoI test-time augmentation of FGL Faster R-CNN."""

import pytest
import torch

from mmfgl.models.test_time_augs import RoITTAModel

QUARTER = [(0, 0, 0.6, 0.6)]


def test_attention_mask_is_computed_once(tools, monkeypatch):
    detector = tools.build_detector('fgl')
    head, asked = detector.roi_head, []
    attention_masks = head.attention_masks
    monkeypatch.setattr(
        head,
        'attention_masks',
        lambda *args: asked.append(1) or attention_masks(*args),
    )
    calls = tools.record_rois(detector, monkeypatch)
    views = tools.make_images()[:1], [None, (120, 120)]
    tools.tta(
        detector, tools.view_batch(*views, windows=QUARTER), rescore_thr=0
    )
    assert len(asked) == 1 and len(calls) == 4
    first = calls[0].given
    whole = [call for call in calls if len(call.given) == len(first)]
    assert len(whole) == 2
    assert torch.equal(whole[1].given.attention_mask, first.attention_mask)
    # RoIs that are scored elsewhere stay, as context of the others; those
    # that a slice does not show whole are not in it
    for call in calls:
        assert call in whole or call.given.bboxes[:, 2].max() < call.width
    # those that are rescored keep their part of the mask
    best = calls[0].scores[:, :-1].amax(1)
    kept = best >= best.median()
    calls.clear()
    threshold = best.median().item()
    tools.tta(detector, tools.view_batch(*views), rescore_thr=threshold)
    first, second = (call.given.attention_mask for call in calls)
    assert 0 < len(second) < len(first)
    assert torch.equal(second, first[kept][:, kept])


@pytest.mark.parametrize('mode', ['views', 'pyramid'])
def test_bf16_autocast(tools, mode):
    # a grid, because the parents' NMS after the RPN knows no bf16
    detector = tools.build_detector('fgl_grid')
    data = tools.view_batch(
        tools.make_images(), [(64, 48), None], [None, 'horizontal']
    )
    with torch.autocast('cpu', torch.bfloat16):
        results = RoITTAModel(detector, mode=mode).test_step(data)
    for found in (result.pred_instances for result in results):
        boxes, scores = found.bboxes, found.scores
        assert len(boxes) > 0
        assert boxes.dtype == scores.dtype == torch.float32
        assert boxes.isfinite().all() and scores.isfinite().all()


def test_pyramid_reads_one_view_from_two_levels(tools, monkeypatch):
    detector = tools.build_detector('fgl_masks')
    head, pooled = detector.roi_head, []
    calls = tools.record_rois(detector, monkeypatch)
    forward = head.mask_roi_extractor.forward
    monkeypatch.setattr(
        head.mask_roi_extractor,
        'forward',
        lambda *args, **kwargs: pooled.append(1) or forward(*args, **kwargs),
    )
    data = tools.view_batch(tools.make_images(), [None, (64, 64)])
    results = tools.tta(detector, data, mode='pyramid', rescore_thr=0)
    assert all(len(r.pred_instances) > 0 for r in results)
    assert detector.backbone.calls == [2]
    assert [call.level_shift for call in calls] == [0, 'nearest']
    own, nearest = (call.scores for call in calls)
    assert not torch.allclose(own, nearest)
    # masks come from the boxes' own level
    assert len(pooled) == 1


def test_equal_levels_give_plain_prediction(tools):
    detector = tools.build_detector('fgl_masks')
    head = detector.roi_head
    for extractor in (head.bbox_roi_extractor, head.mask_roi_extractor):
        for layer in extractor.roi_layers:
            layer.spatial_scale = 1 / 8
    features = detector.extract_feat
    detector.extract_feat = lambda x: (features(x)[1],) * 4
    data = tools.view_batch(tools.make_images(), [None])
    expected = tools.plain(detector, {k: v[0] for k, v in data.items()})
    results = tools.tta(
        detector, data, mode='pyramid', voting_iou=None, rescore_thr=0
    )
    assert all(len(r.pred_instances) > 0 for r in results)
    tools.assert_same(results, expected, exact=False)
