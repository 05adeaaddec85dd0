import copy
import random
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmfgl.models.test_time_augs import RoITTAModel
from mmfgl.models.test_time_augs.scoring import shifted_levels

FLIPS = [None, 'horizontal', 'vertical', 'diagonal']
KINDS = [
    dict(),
    dict(agnostic=True),
    dict(masks=True),
]


def assert_same(ours, theirs, exact=True):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.pred_instances, b.pred_instances
        assert set(a.keys()) == set(b.keys())
        assert len(a) == len(b)
        for key, value in b.items():
            assert a[key].dtype == value.dtype
            if exact:
                assert torch.equal(a[key], value), key
            elif value.dtype == torch.bool:
                # a pixel on the threshold may fall either way
                assert (a[key] != value).float().mean() < 0.01
            else:
                torch.testing.assert_close(a[key], value, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def plain(detector, data):
    return detector.test_step(copy.deepcopy(data))


def tta(detector, data, **options):
    return RoITTAModel(detector, **options).test_step(copy.deepcopy(data))


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('num_images', [1, 2])
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(proposals='merged', score_fusion='max', box_fusion='voting'),
        dict(mode='pyramid', level_shifts=[0]),
    ],
    ids=str,
)
def test_one_view_is_plain_prediction(tools, kind, num_images, options):
    detector = tools.build_detector(**kind)
    images = tools.make_images()[:num_images]
    expected = plain(detector, tools.plain_batch(images, (120, 90)))
    data = tools.view_batch(images, [(120, 90)])
    results = tta(detector, data, **options)
    assert all(len(r.pred_instances) > 3 for r in expected)
    assert_same(results, expected)
    assert [r.img_id for r in results] == list(range(num_images))


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_one_view_without_rescale(tools, kind):
    detector = tools.build_detector(**kind)
    images = tools.make_images()
    data = tools.plain_batch(images, (120, 90))
    inputs = detector.data_preprocessor(copy.deepcopy(data), False)
    with torch.no_grad():
        expected = detector.predict(**_named(inputs), rescale=False)
    views = tools.view_batch(images, [(120, 90)])
    assert_same(tta(detector, views, rescale=False), expected)


def _named(inputs):
    return dict(
        batch_inputs=inputs['inputs'],
        batch_data_samples=inputs['data_samples'],
    )


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(proposals='merged'),
        dict(box_fusion='voting'),
        dict(score_fusion='max', box_fusion='reference'),
        dict(score_fusion='weighted', flip_weight=0.3),
        dict(stack_views=False),
    ],
    ids=str,
)
def test_flips_change_nothing_for_a_symmetric_detector(tools, kind, options):
    # sizes that the strides divide: padding would break the symmetry
    images = tools.make_images([(64, 96), (64, 96)])
    detector = tools.build_detector(**kind)
    expected = plain(detector, tools.plain_batch(images))
    results = tta(detector, tools.view_batch(images, [None], FLIPS), **options)
    assert_same(results, expected, exact=False)


def test_flips_without_an_unflipped_view(tools):
    images = tools.make_images([(64, 96)])
    detector = tools.build_detector(masks=True)
    expected = plain(detector, tools.plain_batch(images))
    for flips in (FLIPS[1:2], FLIPS[1:3]):
        results = tta(detector, tools.view_batch(images, [None], flips))
        assert_same(results, expected, exact=False)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(proposals='merged', box_fusion='voting'),
        dict(
            score_fusion='weighted',
            scale_weights=[1, 3, 2],
            flip_weight=0.5,
            size_ranges=[(16, None), (8, 64), (0, 48)],
        ),
        dict(reference='smallest', score_fusion='max'),
        dict(reference=(100, 66)),
    ],
    ids=str,
)
def test_order_of_views_does_not_matter(tools, options):
    detector = tools.build_detector(masks=True)
    images = tools.make_images()
    scales = [(64, 48), (96, 80), (160, 120)]
    data = tools.view_batch(images, scales, FLIPS[:2])
    expected = tta(detector, data, **options)
    order = list(range(6))
    random.Random(1).shuffle(order)
    mixed = {key: [value[i] for i in order] for key, value in data.items()}
    assert_same(tta(detector, mixed, **options), expected)


def test_images_of_a_batch_do_not_change_each_other(tools):
    # for these two, area ranks the two scales the other way round
    images = tools.make_images([(64, 128), (128, 64)])
    scales = [(128, 40), (96, 56)]
    detector = tools.build_detector()
    data = tools.view_batch(images, scales, FLIPS[:2], keep_ratio=False)
    together = tta(detector, data)
    alone = []
    for image in images:
        data = tools.view_batch([image], scales, FLIPS[:2], keep_ratio=False)
        alone += tta(detector, data)
    assert_same(together, alone, exact=False)


class OracleRoIHead(StandardRoIHead):
    """Sees the true place of every RoI, whatever the view."""

    def predict_bbox(self, x, batch_img_metas, rpn_results_list, **kwargs):
        results = []
        for meta, given in zip(batch_img_metas, rpn_results_list, strict=True):
            boxes = given.bboxes.clone()
            scale = meta['scale_factor']
            height = round(meta['ori_shape'][0] * scale[1])
            width = round(meta['ori_shape'][1] * scale[0])
            if meta['flip_direction'] in ('horizontal', 'diagonal'):
                boxes[:, 0::2] = width - boxes[:, [2, 0]]
            if meta['flip_direction'] in ('vertical', 'diagonal'):
                boxes[:, 1::2] = height - boxes[:, [3, 1]]
            places = boxes / boxes.new_tensor(scale * 2)
            logits = torch.cat([places / 20, places[:, :1] * 0], dim=1)
            results.append(
                InstanceData(
                    bboxes=given.bboxes.clone(), scores=logits.softmax(1)
                )
            )
        return results


@pytest.mark.parametrize('keep_ratio', [True, False])
@pytest.mark.parametrize('pad', [None, (200, 200)])
def test_views_see_the_same_rois(tools, keep_ratio, pad):
    detector = tools.build_detector(agnostic=True)
    detector.roi_head.__class__ = OracleRoIHead
    images = tools.make_images()
    scales = [(70, 50), (110, 90), (190, 90)]
    data = tools.view_batch(images, scales, FLIPS, keep_ratio, pad)
    detector.rpn_head.predict = frozen_proposals
    # one view: the oracle's answer on the proposals of the median view
    data_one = tools.view_batch(
        images, scales[1:2], keep_ratio=keep_ratio, pad=pad
    )
    expected = tta(detector, data_one)
    for options in (dict(), dict(box_fusion='voting', score_fusion='max')):
        results = tta(detector, data, **options)
        assert_same(results, expected, exact=False)


def frozen_proposals(x, batch_data_samples, rescale):
    """The same random boxes of the image, whatever the view."""
    torch.manual_seed(0)
    results = []
    for sample in batch_data_samples:
        corners = torch.rand(20, 2, 2).sort(dim=1).values
        size = torch.tensor(sample.ori_shape[::-1])
        scale = torch.tensor(sample.scale_factor)
        boxes = (corners * size * scale).reshape(20, 4)
        results.append(InstanceData(bboxes=boxes, scores=torch.rand(20)))
    return results


def test_no_proposals(tools):
    detector = tools.build_detector(masks=True)
    detector.rpn_head.test_cfg.min_bbox_size = 1000
    data = tools.view_batch(tools.make_images(), [None, (64, 64)], FLIPS[:2])
    for options in (dict(), dict(proposals='merged'), dict(mode='pyramid')):
        for result in tta(detector, data, **options):
            _assert_empty(result)


def _assert_empty(result):
    assert isinstance(result, DetDataSample)
    found = result.pred_instances
    assert isinstance(found, InstanceData)
    assert found.bboxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.labels.dtype == torch.long
    if 'masks' in found:
        assert found.masks.shape == (0, *result.ori_shape)


def test_no_proposals_in_one_image_of_two(tools):
    detector = tools.build_detector()
    data = tools.view_batch(tools.make_images(), [None, (64, 64)], FLIPS[:2])
    some = torch.tensor([[4.0, 4.0, 30.0, 40.0], [8.0, 20.0, 40.0, 50.0]])
    for view in data['data_samples']:
        for sample, boxes in zip(view, (some, some[:0]), strict=True):
            sample.proposals = InstanceData(bboxes=boxes)
    first, second = tta(detector, data)
    assert len(first.pred_instances) > 0
    _assert_empty(second)


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_no_detections(tools, kind):
    detector = tools.build_detector(**kind)
    data = tools.view_batch(tools.make_images(), [None, (64, 64)], FLIPS[:2])
    for result in tta(detector, data, tta_cfg=dict(score_thr=1.0)):
        _assert_empty(result)


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
    found = tta(detector, data)[0].pred_instances
    assert sorted(values) == [0.3, 0.9]
    assert found.masks.any()  # the mean, 0.6, passes the threshold
    values.clear()
    head.test_cfg.mask_thr_binary = 0.65
    assert not tta(detector, data)[0].pred_instances.masks.any()
    head.test_cfg.mask_thr_binary = 0.85
    found = tta(detector, data, mask_fusion='reference')[0].pred_instances
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
    expected = plain(detector, tools.plain_batch(images))
    results = tta(detector, tools.view_batch(images, [None], FLIPS))
    masks = [r[0].pred_instances.masks.float() for r in (results, expected)]
    assert 0.02 < masks[1].mean() < 0.98
    assert len(masks[0]) == len(masks[1])
    assert (masks[0] != masks[1]).float().mean() < 0.01
    with pytest.raises(StopIteration):
        next(orders)


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
        tta(detector, data, **options)
        return detector.backbone.calls, len(rpn_runs)

    assert runs() == ([4, 4], 1)
    assert runs(stack_views=False) == ([2, 2, 2, 2], 1)
    assert runs(proposals='merged') == ([4, 4], 4)
    assert runs(mode='pyramid') == ([2], 1)


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
        scores = tta(detector, data, **options)[0].pred_instances.scores
        assert scores.max() == scores.min()
        return scores[0].item()

    assert score() == pytest.approx((0.9 + 0.5 + 0.7 + 0) / 4)
    assert score(score_fusion='max') == pytest.approx(0.9)
    options = dict(score_fusion='weighted', scale_weights=[1, 3])
    assert score(**options) == pytest.approx((0.9 + 0.5 + 3 * 0.7) / 8)
    options['flip_weight'] = 0.5
    expected = (0.9 + 0.5 * 0.5 + 3 * 0.7) / (1 + 0.5 + 3 + 1.5)
    assert score(**options) == pytest.approx(expected)


def record_rois(detector, monkeypatch):
    """What predict_bbox gets and gives for the first image, each call."""
    calls, predict = [], detector.roi_head.predict_bbox

    def predict_bbox(x, metas, rpn_results, **kwargs):
        results = predict(x, metas, rpn_results, **kwargs)
        calls.append(
            SimpleNamespace(
                width=metas[0]['img_shape'][1],
                given=rpn_results[0],
                scores=results[0].scores,
            )
        )
        return results

    monkeypatch.setattr(detector.roi_head, 'predict_bbox', predict_bbox)
    return calls


def test_size_ranges(tools, monkeypatch):
    detector = tools.build_detector()
    calls = record_rois(detector, monkeypatch)
    image = tools.make_images([(64, 64)])
    data = tools.view_batch(image, [(32, 32), (64, 64), (128, 128)])
    ranges = [(14, None), (0, None), (None, 40)]
    expected = tta(detector, data, size_ranges=ranges)
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
    alone = tta(detector, data, size_ranges=(500, None))
    assert_same(alone, tta(detector, {k: v[1:2] for k, v in data.items()}))
    with pytest.raises(AssertionError):
        assert_same(alone, expected)


def test_rescore_thr_leaves_low_scores_to_the_reference(tools, monkeypatch):
    detector = tools.build_detector()
    calls = record_rois(detector, monkeypatch)
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    tta(detector, data)
    assert len(calls[1].given) == len(calls[0].given)
    best = calls[0].scores[:, :-1].amax(1)
    calls.clear()
    tta(detector, data, rescore_thr=best.median().item())
    assert len(calls[1].given) == (best >= best.median()).sum()
    assert len(calls[1].given) < len(calls[0].given)


def test_attention_mask_is_computed_once(tools, monkeypatch):
    detector = tools.build_detector()
    calls = record_rois(detector, monkeypatch)
    asked = []

    def attention_masks(proposals, metas):
        asked.append(metas)
        return [torch.rand(len(p), len(p)) > 0.5 for p in proposals]

    detector.roi_head.attention_masks = attention_masks
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    # RoIs out of the size range stay, as context of the others
    tta(detector, data, size_ranges=(500, None))
    assert len(asked) == 1
    first, second = (call.given.attention_mask for call in calls)
    assert torch.equal(first, second) and first.shape == (30, 30)
    best = calls[0].scores[:, :-1].amax(1)
    calls.clear()
    tta(detector, data, rescore_thr=best.median().item())
    first, second = (call.given.attention_mask for call in calls)
    keep = best >= best.median()
    assert torch.equal(second, first[keep][:, keep])


def test_unanswered_rois_abstain(tools):
    detector = tools.build_detector(agnostic=True)
    detector.roi_head.__class__ = OracleRoIHead
    detector.rpn_head.predict = frozen_proposals
    data = tools.view_batch(tools.make_images()[:1], [None, (120, 120)])
    expected = tta(detector, data)
    predict = detector.roi_head.predict_bbox

    def silent_in_large_views(x, metas, rpn_results, **kwargs):
        results = predict(x, metas, rpn_results, **kwargs)
        if metas[0]['scale_factor'][0] > 1:
            results[0].scores[:5, :-1] = 0
            results[0].bboxes[:5] = 0
        return results

    detector.roi_head.predict_bbox = silent_in_large_views
    assert_same(tta(detector, data), expected, exact=False)


def test_levels_off_the_pyramid_are_left_out(tools, monkeypatch):
    detector = tools.build_detector()
    calls = record_rois(detector, monkeypatch)
    data = tools.view_batch(tools.make_images()[:1], [None])
    expected = plain(detector, {k: v[0] for k, v in data.items()})
    extractor = detector.roi_head.bbox_roi_extractor
    boxes = calls[0].given.bboxes
    rois = torch.cat([boxes[:, :1] * 0, boxes], dim=1)
    finest = int((extractor.map_roi_levels(rois, 3) == 0).sum())
    assert 0 < finest < len(boxes)
    calls.clear()
    tta(detector, data, mode='pyramid', level_shifts=[-1, 0])
    assert [len(c.given) for c in calls] == [len(boxes), len(boxes) - finest]
    calls.clear()
    # three levels: nothing lies three above any of them
    results = tta(detector, data, mode='pyramid', level_shifts=[0, 3])
    assert len(calls) == 1
    assert_same(results, expected)


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
    results = tta(detector, data, mode='pyramid')
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
    expected = plain(detector, {k: v[0] for k, v in data.items()})
    head.mask_roi_extractor = head.bbox_roi_extractor  # shared: moved once
    with (
        pytest.raises(ZeroDivisionError),
        shifted_levels(head, 1),
    ):
        rois = torch.tensor([[0, 0.0, 0.0, 30.0, 30.0]])
        assert head.bbox_roi_extractor.map_roi_levels(rois, 3).tolist() == [2]
        raise ZeroDivisionError
    assert_same(plain(detector, {k: v[0] for k, v in data.items()}), expected)
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
    expected = plain(detector, {k: v[0] for k, v in data.items()})
    model = RoITTAModel(detector, mode='pyramid')
    # hide the test's own patch from the one that moves levels
    assert_same(model.test_step(copy.deepcopy(data)), expected, exact=False)
