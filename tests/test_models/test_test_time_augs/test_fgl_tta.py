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


def fields(results):
    return [
        (r.pred_instances.bboxes, r.pred_instances.scores) for r in results
    ]


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('num_images', [1, 2])
@pytest.mark.parametrize('neighbour_iou', [None, 0.4])
def test_one_view_is_plain_prediction(tools, kind, num_images, neighbour_iou):
    detector = tools.build_fgl_detector(**kind)
    detector.roi_head.bbox_head.voting_iou = neighbour_iou
    images = tools.make_images()[:num_images]
    plain = tools.plain_batch(images, (120, 90))
    with torch.no_grad():
        expected = fields(detector.test_step(plain))
    data = tools.view_batch(images, [(120, 90)])
    results = fields(RoITTAModel(detector).test_step(data))
    for (boxes, scores), (their_boxes, their_scores) in zip(
        results, expected, strict=True
    ):
        assert len(boxes) > 0
        assert torch.equal(boxes, their_boxes)
        assert torch.equal(scores, their_scores)


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize(
    'options',
    [
        dict(),
        dict(box_fusion='voting', rescore_thr=0.2, size_ranges=(8, None)),
        dict(mode='pyramid'),
    ],
    ids=str,
)
def test_views_in_any_order(tools, kind, options):
    detector = tools.build_fgl_detector(**kind)
    data = tools.view_batch(
        tools.make_images(), [(64, 48), None], [None, 'horizontal']
    )
    model = RoITTAModel(detector, **options)
    expected = fields(model.test_step(copy.deepcopy(data)))
    data = {key: value[::-1] for key, value in data.items()}
    for got, want in zip(fields(model.test_step(data)), expected, strict=True):
        assert len(got[0]) > 0
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_attention_mask_is_computed_once(tools, monkeypatch):
    detector = tools.build_fgl_detector()
    head = type(detector.roi_head)
    asked, seen = [], []
    attention_masks, predict = head.attention_masks, head.predict_bbox
    monkeypatch.setattr(
        head,
        'attention_masks',
        lambda *args: asked.append(1) or attention_masks(*args),
    )

    def predict_bbox(self, x, metas, proposals, **kwargs):
        seen.extend(p.attention_mask for p in proposals)
        return predict(self, x, metas, proposals, **kwargs)

    monkeypatch.setattr(head, 'predict_bbox', predict_bbox)
    data = tools.view_batch(tools.make_images()[:1], [(64, 48), None])
    RoITTAModel(detector, rescore_thr=0).test_step(data)
    assert len(asked) == 1 and len(seen) == 2
    assert torch.equal(seen[0], seen[1])


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
