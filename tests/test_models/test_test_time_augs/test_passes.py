import pytest
import torch
from mmengine.structures import InstanceData

FLIPS = [None, 'horizontal', 'vertical', 'diagonal']


def test_backbone_and_rpn_run_no_more_than_needed(tools, monkeypatch):
    detector = tools.build_detector()
    images = tools.make_images()
    data = tools.view_batch(images, [None, (50, 50)], FLIPS[:2])
    rpn_runs, predict = [], detector.rpn_head.predict
    monkeypatch.setattr(
        detector.rpn_head,
        'predict',
        lambda *a, **k: rpn_runs.append(1) or predict(*a, **k),
    )

    def runs(**options):
        detector.backbone.calls.clear()
        rpn_runs.clear()
        tools.tta(detector, data, **options)
        return detector.backbone.calls, len(rpn_runs)

    # one batch of both flips costs more than two batches on a CPU
    assert runs() == ([2, 2, 2, 2], 2)
    assert runs(stack_views=True) == ([4, 4], 2)
    assert runs(proposals='reference') == ([2, 2, 2, 2], 1)
    assert runs(proposals='merged') == ([2, 2, 2, 2], 4)
    assert runs(mode='pyramid') == ([2], 1)


def test_size_ranges(tools, monkeypatch):
    detector = tools.build_detector()
    calls = tools.record_rois(detector, monkeypatch)
    image = tools.make_images([(64, 64)])
    data = tools.view_batch(image, [(32, 32), (64, 64), (128, 128)])
    ranges = [(14, None), (0, None), (None, 40)]
    options = dict(proposals='reference', rescore_thr=0, neighbour_iou=None)
    expected = tools.tta(detector, data, size_ranges=ranges, **options)
    assert [call.width for call in calls] == [
        64,
        32,
        128,
    ]  # the reference, then by scale
    for call, (low, high) in zip(calls[1:], [(14, 1e9), (0, 40)], strict=True):
        boxes = call.given.bboxes
        size = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
        assert 0 < len(size) < len(calls[0].given)
        assert size.min() >= low and size.max() <= high
    # one range for all views, in pixels of each view: nothing fits, so
    # the reference view speaks alone
    alone = tools.tta(detector, data, size_ranges=(500, None), **options)
    tools.assert_same(
        alone, tools.tta(detector, {k: v[1:2] for k, v in data.items()})
    )
    with pytest.raises(AssertionError):
        tools.assert_same(alone, expected)


def test_rescore_thr_leaves_low_scores_to_the_reference(tools, monkeypatch):
    detector = tools.build_detector()
    calls = tools.record_rois(detector, monkeypatch)
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    tools.tta(detector, data, rescore_thr=0)
    assert len(calls[1].given) == len(calls[0].given)
    best = calls[0].scores[:, :-1].amax(1)
    calls.clear()
    tools.tta(detector, data, rescore_thr=best.median().item())
    assert len(calls[1].given) == (best >= best.median()).sum()
    assert len(calls[1].given) < len(calls[0].given)


def test_attention_mask_is_computed_once(tools, monkeypatch):
    detector = tools.build_detector()
    calls = tools.record_rois(detector, monkeypatch)
    asked = []

    def attention_masks(proposals, metas):
        asked.append(metas)
        return [torch.rand(len(p), len(p)) > 0.5 for p in proposals]

    detector.roi_head.attention_masks = attention_masks
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    # RoIs out of the size range stay, as context of the others
    tools.tta(detector, data, size_ranges=(500, None), rescore_thr=0)
    assert len(asked) == 1
    first, second = (call.given.attention_mask for call in calls)
    assert torch.equal(first, second) and first.shape == (30, 30)
    best = calls[0].scores[:, :-1].amax(1)
    calls.clear()
    tools.tta(detector, data, rescore_thr=best.median().item())
    first, second = (call.given.attention_mask for call in calls)
    keep = best >= best.median()
    assert torch.equal(second, first[keep][:, keep])


def test_unanswered_rois_abstain(tools):
    detector = tools.build_detector(agnostic=True)
    detector.roi_head.__class__ = tools.OracleRoIHead
    detector.rpn_head.predict = tools.frozen_proposals
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    options = dict(rescore_thr=0, neighbour_iou=None)
    expected = tools.tta(detector, data, **options)
    predict = detector.roi_head.predict_bbox

    def silent_in_large_views(x, metas, rpn_results, **kwargs):
        results = predict(x, metas, rpn_results, **kwargs)
        if metas[0]['scale_factor'][0] > 1:
            results[0].scores[:5, :-1] = 0
            results[0].bboxes[:5] = 0
        return results

    detector.roi_head.predict_bbox = silent_in_large_views
    results = tools.tta(detector, data, **options)
    tools.assert_same(results, expected, exact=False)


def test_weights_of_scales_and_flips(tools):
    detector = tools.build_detector(agnostic=True)
    told = {(48, False): 0.9, (48, True): 0.5, (96, False): 0.7, (96, True): 0}

    def predict_bbox(x, metas, proposals, **kwargs):
        score = told[metas[0]['img_shape'][1], metas[0]['flip']]
        row = torch.tensor([score, 0.01, 0.0, 0.99 - score])
        boxes = proposals[0].bboxes
        return [InstanceData(bboxes=boxes, scores=row.repeat(len(boxes), 1))]

    detector.roi_head.predict_bbox = predict_bbox
    image = tools.make_images()[:1]
    data = tools.view_batch(image, [(96, 96), (48, 48)], FLIPS[:2])

    def score(**options):
        scores = tools.tta(detector, data, **options)[0].pred_instances.scores
        assert scores.max() == scores.min()
        return scores[0].item()

    assert score() == pytest.approx((0.9 + 0.5 + 0.7 + 0) / 4)
    assert score(score_fusion='max') == pytest.approx(0.9)
    options = dict(score_fusion='weighted', scale_weights=[1, 3])
    assert score(**options) == pytest.approx((0.9 + 0.5 + 3 * 0.7) / 8)
    options['flip_weight'] = 0.5
    expected = (0.9 + 0.5 * 0.5 + 3 * 0.7) / (1 + 0.5 + 3 + 1.5)
    assert score(**options) == pytest.approx(expected)


def test_masks_are_averaged_over_views(tools):
    detector = tools.build_detector(masks=True)
    data = tools.view_batch(tools.make_images()[:1], [(64, 64), (130, 130)])
    # a constant mask each view: 0.9 in the large one, 0.3 in the small one
    head, values = detector.roi_head, []

    def masks_of(x, rois):
        values.append(0.9 if x[0].shape[-1] > 20 else 0.3)
        logit = torch.logit(torch.tensor(values[-1]))
        return dict(mask_preds=logit.expand(len(rois), 3, 6, 6))

    head._mask_forward = masks_of
    found = tools.tta(detector, data)[0].pred_instances
    assert sorted(values) == [0.3, 0.9]
    assert found.masks.any()  # the mean, 0.6, passes the threshold
    values.clear()
    head.test_cfg.mask_thr_binary = 0.65
    assert not tools.tta(detector, data)[0].pred_instances.masks.any()
    head.test_cfg.mask_thr_binary = 0.85
    found = tools.tta(detector, data, mask_fusion='reference')[
        0
    ].pred_instances
    assert values[-1] == 0.9 and found.masks.any()


def test_masks_are_turned_back(tools):
    detector = tools.build_detector(masks=True)
    images = tools.make_images()[:1]
    torch.manual_seed(0)
    upright = torch.randn(3, 6, 6) * 4
    dims = {'diagonal': [-2, -1], 'horizontal': [-1], 'vertical': [-2]}
    # the order of the passes: reference, then by the name of the flip
    orders = iter([[], [], *dims.values()])

    def masks_of(x, rois):
        logits = upright.flip(next(orders))
        return dict(mask_preds=logits.expand(len(rois), -1, -1, -1))

    detector.roi_head._mask_forward = masks_of
    expected = tools.plain(detector, tools.plain_batch(images))
    results = tools.tta(detector, tools.view_batch(images, [None], FLIPS))
    masks = [r[0].pred_instances.masks.float() for r in (results, expected)]
    assert 0.02 < masks[1].mean() < 0.98
    assert len(masks[0]) == len(masks[1])
    assert (masks[0] != masks[1]).float().mean() < 0.01
    with pytest.raises(StopIteration):
        next(orders)
