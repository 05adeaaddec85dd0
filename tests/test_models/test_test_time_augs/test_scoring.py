import pytest
import torch
from mmengine.structures import InstanceData

from mmfgl.models.test_time_augs.scoring import level_weights, view_weights
from mmfgl.models.test_time_augs.views import View

WHOLE = View((1.0, 1.0), (100, 200))
SMALL = View((0.5, 0.5), (50, 100))
LEFT = View((2.0, 2.0), (200, 240), None, (0, 0), (False, False, True, False))
RIGHT = View(
    (2.0, 2.0), (200, 240), 'horizontal', (80, 0), (True,) + LEFT.cut[:1] * 3
)
CORNER = View((4.0, 4.0), (160, 160), None, (0, 0), (False, False, True, True))
ALIKE = View((1.0, 1.0), (100, 120), None, (0, 0), (False, False, True, False))


@pytest.mark.parametrize(
    'box, views',
    [
        ((10, 50, 60, 90), [LEFT]),
        ((90, 20, 110, 40), [LEFT, RIGHT]),  # both show it as large
        ((0, 0, 30, 30), [CORNER]),  # the largest of two slices
        ((20, 20, 41, 30), [LEFT]),  # CORNER cuts it
        ((70, 0, 130, 100), [WHOLE, SMALL]),  # no slice shows it whole
        ((0, 0, 200, 100), [WHOLE, SMALL]),
    ],
)
def test_rois_are_scored_in_the_slice_that_shows_them_largest(box, views):
    every = [WHOLE, SMALL, LEFT, RIGHT, CORNER, ALIKE]
    weights = view_weights(every, torch.tensor([box]).float())
    assert weights.squeeze(1).tolist() == [float(v in views) for v in every]


def test_linear_weights_of_levels(tools):
    extractor = tools.build_detector().roi_head.bbox_roi_extractor
    # three levels for sides of 12-24, 24-48, 48-96 pixels; squares of side
    sides = 12 * 2 ** torch.tensor([-1, 0.2, 0.9, 1.0, 1.5, 2.25, 4.0])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    share = torch.tensor([0, 0, 0.4, 0.5, 0, 0.25, 0])
    weights = level_weights(boxes, extractor)
    expected = torch.stack([1 - share, share])
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-4)


def test_small_objects_are_scored_in_their_slice(tools):
    detector = tools.build_detector('agnostic')

    def predict_bbox(x, metas, proposals, **kwargs):
        # the whole image says next to nothing: rescore_thr would leave it so
        whole = metas[0]['slice_window'] == (0, 0, 96, 64)
        scores = torch.tensor([[0.06 if whole else 0.8, 0.01, 0, 0.1]])
        boxes = proposals[0].bboxes
        scores = scores.repeat(len(boxes), 1)
        return [InstanceData(bboxes=boxes, scores=scores)]

    detector.roi_head.predict_bbox = predict_bbox
    data = tools.view_batch(
        tools.make_images()[:1], [(96, 64)], windows=[(0, 0, 0.5, 0.5)]
    )
    boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0], [10.0, 10.0, 90.0, 60.0]])
    tools.give_proposals(data, [boxes])
    (result,) = tools.tta(detector, data, rescore_thr=0.1)
    found = result.pred_instances
    assert found.scores.tolist() == pytest.approx([0.8, 0.06])
    torch.testing.assert_close(found.bboxes, boxes)


@pytest.mark.parametrize('kind', ['classwise', 'fgl'])
def test_rescore_thr_leaves_low_scores(tools, monkeypatch, kind):
    detector = tools.build_detector(kind)
    calls = tools.record_rois(detector, monkeypatch)
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    tools.tta(detector, data, rescore_thr=0)
    assert len(calls[1].given) == len(calls[0].given)
    best = calls[0].scores[:, :-1].amax(1)
    kept = best >= best.median()
    calls.clear()
    tools.tta(detector, data, rescore_thr=best.median().item())
    first, second = (call.given for call in calls)
    assert 0 < len(second) == kept.sum() < len(kept)
    if kind == 'fgl':  # those that are left keep their part of the mask
        expected = first.attention_mask[kept][:, kept]
        assert torch.equal(second.attention_mask, expected)
        return  # its scores are too certain for the rest
    calls.clear()
    tools.tta(detector, data, rescore_thr=0.999)  # nothing is left
    assert len(calls) == 1


def test_unanswered_rois_abstain(tools):
    detector = tools.build_detector('agnostic')
    detector.roi_head.__class__ = tools.OracleRoIHead
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    tools.give_proposals(data)
    options = dict(rescore_thr=0, voting_iou=None)
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


def test_masks_are_averaged_over_views(tools):
    detector = tools.build_detector('masks')
    data = tools.view_batch(tools.make_images()[:1], [(64, 64), (130, 130)])

    def constant_masks(feats, rois):
        probability = torch.tensor(0.9 if feats[0].shape[-1] > 20 else 0.3)
        logit = probability.logit()
        return dict(mask_preds=logit.expand(len(rois), 3, 6, 6))

    detector.roi_head._mask_forward = constant_masks
    # the mean, 0.6, passes the threshold 0.5, but not 0.65
    assert tools.tta(detector, data)[0].pred_instances.masks.any()
    detector.roi_head.test_cfg.mask_thr_binary = 0.65
    assert not tools.tta(detector, data)[0].pred_instances.masks.any()

    # a head with masks of its own gives those of the reference, 0.9
    class OwnMasks(type(detector.roi_head)):
        def predict_mask(self, *args, **kwargs):
            return super().predict_mask(*args, **kwargs)

    detector.roi_head.__class__ = OwnMasks
    assert tools.tta(detector, data)[0].pred_instances.masks.any()


def test_masks_are_turned_back(tools):
    detector = tools.build_detector('masks')
    images = tools.make_images()[:1]
    upright = torch.linspace(-4, 4, 36).view(6, 6)  # no symmetry
    dims = {'diagonal': [-2, -1], 'horizontal': [-1], 'vertical': [-2]}
    # plain; then the reference, and the others by the name of the flip
    turns = iter([[], [], *dims.values()])
    detector.roi_head._mask_forward = lambda feats, rois: dict(
        mask_preds=upright.flip(next(turns)).expand(len(rois), 3, -1, -1)
    )
    expected = tools.plain(detector, tools.plain_batch(images))
    assert 0.02 < expected[0].pred_instances.masks.float().mean() < 0.98
    data = tools.view_batch(images, [None], [None, *dims])
    results = tools.tta(detector, data, voting_iou=None)
    tools.assert_same(results, expected, exact=False)
    assert next(turns, None) is None
