import pytest
import torch

from mmfgl.models.test_time_augs import RoITTAModel


def test_attention_mask_is_computed_once(tools, monkeypatch):
    detector = tools.build_detector('fgl')
    head, asked = detector.roi_head, []
    masks = head.attention_masks
    monkeypatch.setattr(
        head, 'attention_masks', lambda *args: asked.append(1) or masks(*args)
    )
    calls = tools.record_rois(detector, monkeypatch)
    data = tools.view_batch(
        tools.make_images()[:1],
        [None, (120, 120)],
        windows=[(0, 0, 0.6, 0.6)],
    )
    tools.tta(detector, data, rescore_thr=0)
    assert len(asked) == 1 and len(calls) == 4
    given = [call.given for call in calls]
    whole = [x for x in given if len(x) == len(given[0])]
    assert len(whole) == 2
    assert torch.equal(*(x.attention_mask for x in whole))
    # RoIs that are scored elsewhere stay, as context of the others; those
    # that a slice does not show whole are not in it
    for call in calls:
        assert call.given.attention_mask.shape == (len(call.given),) * 2
        assert 0 < len(call.given) <= len(given[0])
        if len(call.given) < len(given[0]):
            assert call.given.bboxes[:, 2].max() < call.width


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
