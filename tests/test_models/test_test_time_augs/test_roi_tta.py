import random

import pytest
import torch

FLIPS = [None, 'horizontal', 'vertical', 'diagonal']
KINDS = [
    dict(),
    dict(agnostic=True),
    dict(masks=True),
]


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
    expected = tools.plain(detector, tools.plain_batch(images, (120, 90)))
    data = tools.view_batch(images, [(120, 90)])
    results = tools.tta(detector, data, **options)
    assert all(len(r.pred_instances) > 3 for r in expected)
    tools.assert_same(results, expected)
    assert [r.img_id for r in results] == list(range(num_images))


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_one_view_without_rescale(tools, kind):
    detector = tools.build_detector(**kind)
    images = tools.make_images()
    data = tools.plain_batch(images, (120, 90))
    inputs = detector.data_preprocessor(data, False)
    with torch.no_grad():
        expected = detector.predict(**_named(inputs), rescale=False)
    views = tools.view_batch(images, [(120, 90)])
    tools.assert_same(tools.tta(detector, views, rescale=False), expected)


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
        dict(stack_views=True),
    ],
    ids=str,
)
def test_flips_change_nothing_for_a_symmetric_detector(tools, kind, options):
    # sizes that the strides divide: padding would break the symmetry
    images = tools.make_images([(64, 96), (64, 96)])
    detector = tools.build_detector(**kind)
    expected = tools.plain(detector, tools.plain_batch(images))
    results = tools.tta(
        detector,
        tools.view_batch(images, [None], FLIPS),
        neighbour_iou=None,
        **options,
    )
    tools.assert_same(results, expected, exact=False)


def test_flips_without_an_unflipped_view(tools):
    images = tools.make_images([(64, 96)])
    detector = tools.build_detector(masks=True)
    expected = tools.plain(detector, tools.plain_batch(images))
    for flips in (FLIPS[1:2], FLIPS[1:3]):
        results = tools.tta(
            detector,
            tools.view_batch(images, [None], flips),
            neighbour_iou=None,
        )
        tools.assert_same(results, expected, exact=False)


@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(proposals='merged', box_fusion='voting'),
        dict(proposals='reference', neighbour_iou=None, rescore_thr=0),
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
    expected = tools.tta(detector, data, **options)
    order = list(range(6))
    random.Random(1).shuffle(order)
    mixed = {key: [value[i] for i in order] for key, value in data.items()}
    tools.assert_same(tools.tta(detector, mixed, **options), expected)


def test_images_of_a_batch_do_not_change_each_other(tools):
    # for these two, area ranks the two scales the other way round
    images = tools.make_images([(64, 128), (128, 64)])
    scales = [(128, 40), (96, 56)]
    detector = tools.build_detector()
    data = tools.view_batch(images, scales, FLIPS[:2], keep_ratio=False)
    together = tools.tta(detector, data)
    alone = []
    for image in images:
        data = tools.view_batch([image], scales, FLIPS[:2], keep_ratio=False)
        alone += tools.tta(detector, data)
    tools.assert_same(together, alone, exact=False)


@pytest.mark.parametrize('keep_ratio', [True, False])
@pytest.mark.parametrize('pad', [None, (200, 200)])
def test_views_see_the_same_rois(tools, keep_ratio, pad):
    detector = tools.build_detector(agnostic=True)
    detector.roi_head.__class__ = tools.OracleRoIHead
    images = tools.make_images()
    scales = [(70, 50), (110, 90), (190, 90)]
    data = tools.view_batch(images, scales, FLIPS, keep_ratio, pad)
    detector.rpn_head.predict = tools.frozen_proposals
    # one view: the oracle's answer on the proposals of the median view
    data_one = tools.view_batch(
        images, scales[1:2], keep_ratio=keep_ratio, pad=pad
    )
    expected = tools.tta(detector, data_one)
    for options in (dict(), dict(box_fusion='voting', score_fusion='max')):
        options.update(proposals='reference', neighbour_iou=None)
        results = tools.tta(detector, data, **options)
        tools.assert_same(results, expected, exact=False)


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_boxes_move_to_their_neighbours(tools, kind):
    detector = tools.build_detector(**kind)
    detector.rpn_head.test_cfg.nms.iou_threshold = 0.95
    detector.rpn_head.test_cfg.max_per_img = 100
    data = tools.view_batch(tools.make_images(), [None], FLIPS[:2])
    stay = tools.tta(detector, data, neighbour_iou=None)
    move = tools.tta(detector, data, neighbour_iou=0.3)
    for a, b in zip(stay, move, strict=True):
        a, b = a.pred_instances, b.pred_instances
        assert torch.equal(a.scores, b.scores)
        assert torch.equal(a.labels, b.labels)
        assert not torch.allclose(a.bboxes, b.bboxes, atol=0.1)
        # the box itself votes, so it does not go far
        torch.testing.assert_close(a.bboxes, b.bboxes, rtol=0, atol=24)
