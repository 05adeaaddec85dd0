"""RoI test-time augmentation of FGL Faster R-CNN."""

import copy

import pytest
import torch

from mmfgl.models.test_time_augs import RoITTAModel

GRID = dict(
    rpn_head=None,
    region_proposer=dict(type='mmfgl.GridRegions', cell_sizes=(24, 40)),
)
KINDS = [dict(), dict(num_targets=8), GRID]
QUARTERS = [(0, 0, 0.6, 0.6), (0.4, 0.4, 1, 1)]


def fields(results):
    return [
        (r.pred_instances.bboxes, r.pred_instances.scores) for r in results
    ]


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('num_images', [1, 2])
@pytest.mark.parametrize('voting_iou', [None, 0.4])
def test_one_view_is_plain_prediction(tools, kind, num_images, voting_iou):
    detector = tools.build_fgl_detector(**kind)
    detector.roi_head.bbox_head.voting_iou = voting_iou
    images = tools.make_images()[:num_images]
    expected = tools.plain(detector, tools.plain_batch(images, (120, 90)))
    assert all(len(r.pred_instances) > 0 for r in expected)
    data = tools.view_batch(images, [(120, 90)])
    tools.assert_same(RoITTAModel(detector).test_step(data), expected)


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize(
    'options',
    [dict(), dict(box_fusion='wbf', rescore_thr=0.2), dict(mode='pyramid')],
    ids=str,
)
@pytest.mark.parametrize('windows', [[], QUARTERS], ids=['whole', 'slices'])
def test_views_in_any_order(tools, kind, options, windows):
    detector = tools.build_fgl_detector(**kind)
    data = tools.view_batch(
        tools.make_images(),
        [(64, 48), None],
        [None, 'horizontal'],
        windows=windows,
    )
    model = RoITTAModel(detector, **options)
    expected = fields(model.test_step(copy.deepcopy(data)))
    data = {key: value[::-1] for key, value in data.items()}
    for got, want in zip(fields(model.test_step(data)), expected, strict=True):
        assert len(got[0]) > 0
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_attention_mask_is_computed_once(tools, monkeypatch):
    detector = tools.build_fgl_detector()
    head, asked = detector.roi_head, []
    attention_masks = head.attention_masks
    monkeypatch.setattr(
        head,
        'attention_masks',
        lambda *args: asked.append(1) or attention_masks(*args),
    )
    calls = tools.record_rois(detector, monkeypatch)
    data = tools.view_batch(
        tools.make_images()[:1], [None, (120, 120)], windows=QUARTERS[:1]
    )
    tools.tta(detector, data, rescore_thr=0)
    assert len(asked) == 1 and len(calls) == 4
    masks = [call.given.attention_mask for call in calls]
    whole = [mask for mask in masks if mask.shape == masks[0].shape]
    assert len(whole) == 2 and torch.equal(*whole)
    # RoIs that are scored elsewhere stay, as context of the others; those
    # that a slice does not show whole are not in it
    for call in calls:
        assert call.given.attention_mask.shape == (len(call.given),) * 2
        assert 0 < len(call.given) <= len(calls[0].given)
        if len(call.given) < len(calls[0].given):
            assert call.given.bboxes[:, 2].max() < call.width


def test_rescored_rois_keep_their_part_of_the_mask(tools, monkeypatch):
    detector = tools.build_fgl_detector()
    calls = tools.record_rois(detector, monkeypatch)
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    tools.tta(detector, data, rescore_thr=0)
    best = calls[0].scores[:, :-1].amax(1)
    calls.clear()
    tools.tta(detector, data, rescore_thr=best.median().item())
    first, second = (call.given.attention_mask for call in calls)
    keep = best >= best.median()
    assert 0 < keep.sum() < len(keep)
    assert torch.equal(second, first[keep][:, keep])


@pytest.mark.parametrize('mode', ['views', 'pyramid'])
def test_bf16_autocast(tools, mode):
    # a grid, because the parents' NMS after the RPN knows no bf16
    detector = tools.build_fgl_detector(**GRID)
    data = tools.view_batch(
        tools.make_images(), [(64, 48), None], [None, 'horizontal']
    )
    with torch.autocast('cpu', torch.bfloat16):
        results = RoITTAModel(detector, mode=mode).test_step(data)
    for boxes, scores in fields(results):
        assert len(boxes) > 0
        assert boxes.dtype == scores.dtype == torch.float32
        assert boxes.isfinite().all() and scores.isfinite().all()


def test_pyramid_reads_one_view_from_two_levels(tools, monkeypatch):
    detector = tools.build_fgl_detector(masks=True)
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
    detector = tools.build_fgl_detector(masks=True)
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


def test_pyramid_without_proposals(tools):
    detector = tools.build_fgl_detector()
    detector.rpn_head.test_cfg.min_bbox_size = 1000
    data = tools.view_batch(tools.make_images(), [None])
    for result in tools.tta(detector, data, mode='pyramid'):
        assert result.pred_instances.bboxes.shape == (0, 4)
