import random

import pytest
import torch
from mmdet.models import roi_heads

from mmfgl.models.test_time_augs import RoITTAModel

FLIPS = [None, 'horizontal', 'vertical', 'diagonal']
KINDS = ['classwise', 'agnostic', 'masks']
WBF = dict(box_fusion='wbf', voting_iou=None, rescore_thr=0)
FGL_KINDS = ['fgl', 'fgl_targets', 'fgl_grid', 'fgl_masks']
QUARTERS = [(0, 0, 0.6, 0.6), (0.4, 0.4, 1, 1)]


@pytest.mark.parametrize('kind', KINDS + FGL_KINDS)
@pytest.mark.parametrize('num_images', [1, 2])
def test_one_view_is_plain_prediction(tools, kind, num_images):
    detector = tools.build_detector(kind)
    images = tools.make_images()[:num_images]
    expected = tools.plain(detector, tools.plain_batch(images, (120, 90)))
    data = tools.view_batch(images, [(120, 90)])
    results = tools.tta(detector, data)
    assert all(len(r.pred_instances) > 0 for r in expected)
    tools.assert_same(results, expected)
    assert [r.img_id for r in results] == list(range(num_images))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('box_fusion', ['score_weighted', 'wbf'])
def test_flips_change_nothing_for_a_symmetric_detector(
    tools, kind, box_fusion
):
    # sizes that the strides divide: padding would break the symmetry
    images = tools.make_images([(64, 96), (64, 96)])
    detector = tools.build_detector(kind)
    expected = tools.plain(detector, tools.plain_batch(images))
    data = tools.view_batch(images, [None], FLIPS)
    options = dict(box_fusion=box_fusion, voting_iou=None)
    results = tools.tta(detector, data, **options)
    tools.assert_same(results, expected, exact=False)


@pytest.mark.parametrize(
    ('options', 'windows'),
    [(dict(), QUARTERS), (WBF, [])],
    ids=['mean_slices', 'wbf_whole'],
)
@pytest.mark.parametrize('kind', ['masks', *FGL_KINDS])
def test_order_of_views_does_not_matter(tools, options, windows, kind):
    detector = tools.build_detector(kind)
    images = tools.make_images()
    scales = [(64, 48), (96, 80), (160, 120)]
    data = tools.view_batch(images, scales, FLIPS[:2], windows=windows)
    expected = tools.tta(detector, data, **options)
    assert all(len(r.pred_instances) > 0 for r in expected)
    order = list(range(len(data['inputs'])))
    random.Random(1).shuffle(order)
    mixed = {key: [value[i] for i in order] for key, value in data.items()}
    tools.assert_same(tools.tta(detector, mixed, **options), expected)


def test_images_of_a_batch_do_not_change_each_other(tools):
    # for these two, area ranks the two scales the other way round
    images = tools.make_images([(64, 128), (128, 64)])
    views = dict(
        scales=[(128, 40), (96, 56)], flips=FLIPS[:2], keep_ratio=False
    )
    detector = tools.build_detector()
    together = tools.tta(detector, tools.view_batch(images, **views))
    alone = []
    for image in images:
        alone += tools.tta(detector, tools.view_batch([image], **views))
    tools.assert_same(together, alone, exact=False)


@pytest.mark.parametrize('keep_ratio', [True, False])
@pytest.mark.parametrize('pad', [None, (200, 200)])
@pytest.mark.parametrize(
    ('windows', 'box_fusion'),
    [(QUARTERS, 'wbf'), ([], 'score_weighted')],
    ids=['slices', 'whole'],
)
def test_views_see_the_same_rois(tools, keep_ratio, pad, windows, box_fusion):
    detector = tools.build_detector('agnostic')
    detector.roi_head.__class__ = tools.OracleRoIHead
    images = tools.make_images()
    scales = [(70, 50), (110, 90), (190, 90)]
    geometry = dict(keep_ratio=keep_ratio, pad=pad)
    data = tools.view_batch(images, scales, FLIPS, **geometry, windows=windows)
    # the reference alone, twice
    reference = tools.view_batch(images, scales[1:2] * 2, **geometry)
    options = dict(box_fusion=box_fusion, voting_iou=None, rescore_thr=0)
    expected = tools.tta(detector, tools.give_proposals(reference), **options)
    assert all(len(r.pred_instances) > 3 for r in expected)
    results = tools.tta(detector, tools.give_proposals(data), **options)
    tools.assert_same(results, expected, exact=False)


@pytest.mark.parametrize('kind', KINDS)
def test_boxes_move_to_their_neighbours(tools, kind):
    detector = tools.build_detector(kind)
    detector.rpn_head.test_cfg.nms.iou_threshold = 0.95
    detector.rpn_head.test_cfg.max_per_img = 100
    data = tools.view_batch(tools.make_images(), [None], FLIPS[:2])
    stay = tools.tta(detector, data, voting_iou=None)
    move = tools.tta(detector, data, voting_iou=0.3)
    for a, b in zip(stay, move, strict=True):
        a, b = a.pred_instances, b.pred_instances
        assert torch.equal(a.scores, b.scores)
        assert torch.equal(a.labels, b.labels)
        # the box itself votes, so it does not go far
        assert 0.1 < (a.bboxes - b.bboxes).abs().max() < 24


def assert_empty(result):
    found = result.pred_instances
    assert found.bboxes.shape == (0, 4)
    assert found.scores.shape == found.labels.shape == (0,)
    assert found.labels.dtype == torch.long
    assert 'masks' not in found or found.masks.shape[1:] == result.ori_shape


@pytest.mark.parametrize('kind', [*KINDS, 'fgl'])
@pytest.mark.parametrize(
    ('without', 'windows'),
    [('proposals', QUARTERS), ('detections', [])],
    ids=['proposals', 'detections'],
)
def test_nothing_found(tools, kind, without, windows):
    detector = tools.build_detector(kind)
    if without == 'proposals':
        detector.rpn_head.test_cfg.min_bbox_size = 1000
    else:
        detector.roi_head.test_cfg.score_thr = 1.0
    data = tools.view_batch(
        tools.make_images(), [None, (64, 64)], FLIPS[:2], windows=windows
    )
    mode = 'pyramid' if kind == 'fgl' else 'views'
    for result in tools.tta(detector, data, mode=mode):
        assert_empty(result)


def test_no_proposals_in_one_image_of_two(tools):
    detector = tools.build_detector()
    data = tools.view_batch(tools.make_images(), [None, (64, 64)], FLIPS[:2])
    some = torch.tensor([[4.0, 4.0, 30.0, 40.0], [8.0, 20.0, 40.0, 50.0]])
    tools.give_proposals(data, [some, some[:0]])
    first, second = tools.tta(detector, data)
    assert len(first.pred_instances) > 0
    assert_empty(second)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(mode='view'), "mode must be .* got 'view'"),
        (dict(box_fusion='mean'), 'box_fusion must be .* got'),
        (dict(voting_iou=0), 'voting_iou must lie'),
        (dict(rescore_thr=1.5), 'rescore_thr must lie'),
        (dict(mode='pyramid'), 'level_shift, such as FGLRoIHead, got Stand'),
    ],
    ids=str,
)
def test_bad_options(tools, options, message):
    with pytest.raises(ValueError, match=message):
        RoITTAModel(tools.build_detector(), **options)


@pytest.mark.parametrize(
    'kind', ['Cascade', 'Grid', 'MultiInstance', 'Trident']
)
def test_detectors_that_do_not_fit(tools, kind):
    detector = tools.build_detector()
    detector.roi_head.__class__ = getattr(roi_heads, f'{kind}RoIHead')
    with pytest.raises(TypeError, match=f'got {kind}RoIHead. For'):
        RoITTAModel(detector)
    detector.roi_head = None
    with pytest.raises(TypeError, match='StandardRoIHead.*got FasterRCNN'):
        RoITTAModel(detector)


def test_a_head_that_drops_rois(tools):
    detector = tools.build_detector()
    predict = detector.roi_head.predict_bbox
    detector.roi_head.predict_bbox = lambda *args, **kwargs: [
        result[:3] for result in predict(*args, **kwargs)
    ]
    data = tools.view_batch(tools.make_images(), [None, (64, 64)])
    with pytest.raises(ValueError, match='one row of scores a proposal'):
        tools.tta(detector, data)


def test_merging_finished_predictions_is_refused(tools):
    model = RoITTAModel(tools.build_detector())
    with pytest.raises(NotImplementedError, match='DetTTAModel'):
        model.merge_preds([])
