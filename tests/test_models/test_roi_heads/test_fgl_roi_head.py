import copy

import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes, bbox2roi
from mmengine.structures import InstanceData

from mmfgl.models.layers import iou_attention_mask
from mmfgl.models.roi_heads import RoIContext
from mmfgl.registry import MODELS
from mmfgl.testing import (
    assert_trained,
    detection_batch,
    randomise_weights,
    tiny_fgl_cfg,
)

SIZE = (64, 96)
CLASSES = 3
# overlapping pairs, one box apart from all, one on the left border
BOXES = [[10.0, 10, 40, 40], [14, 12, 44, 42], [60, 20, 90, 50]]
BOXES += [[58, 24, 86, 54], [50, 2, 58, 9], [0, 30, 1, 60]]
BOXES = torch.tensor(BOXES)


def build(transformer=None, roi_head=None, **options):
    cfg = tiny_fgl_cfg(CLASSES, **options)
    head = cfg.roi_head
    head.transformer.update(transformer or {})
    head.update(train_cfg=cfg.train_cfg.rcnn, test_cfg=cfg.test_cfg.rcnn)
    head.update(roi_head or {})
    return randomise_weights(MODELS.build(head)).eval()


def pyramid(num_images):
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(num_images, 16, 64 // s, 96 // s, generator=generator)
        for s in (4, 8, 16, 32)
    )


def proposals(boxes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(len(boxes), generator=generator)
    return InstanceData(bboxes=boxes.clone(), scores=scores)


def random_proposals(count, seed):
    (sample,) = detection_batch([SIZE], count, seed=seed)['data_samples']
    return proposals(sample.gt_instances.bboxes, seed)


def metas(num_images):
    return [dict(img_shape=SIZE, scale_factor=(0.5, 0.5))] * num_images


@torch.no_grad()
def raw(head, feats, given):
    """One row a proposal: list of (boxes, scores)."""
    results = head.predict_bbox(feats, metas(len(given)), given, None)
    return [(r.bboxes, r.scores) for r in results]


def assert_same(got, want):
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def logits(head, boxes, training=False, **context):
    """(R, C + 2) logits of the boxes of one image."""
    head.train(training)
    contexts = [RoIContext(boxes, SIZE, **context)]
    results = head._bbox_forward(pyramid(1), bbox2roi([boxes]), contexts)
    return results['cls_score']


def close(one, other):
    return torch.isclose(one, other, atol=1e-5, rtol=1e-4).all(dim=-1)


def train(head, feats, given, samples):
    """Sum of the losses."""
    head.train()
    torch.manual_seed(0)
    losses = head.loss(feats, copy.deepcopy(given), copy.deepcopy(samples))
    return sum(value for key, value in losses.items() if 'loss' in key)


def test_others_than_targets_are_background():
    given = [proposals(BOXES), random_proposals(2, seed=1)]
    given[0].scores = torch.tensor([0.1, 0.2, 0.8, 0.9, 0.1, 0.1])
    everyone = raw(build(), pyramid(2), given)
    assert all((scores[:, -1] < 1).all() for _, scores in everyone)
    head = build(num_targets=2)
    (boxes, scores), second = raw(head, pyramid(2), given)
    answered = scores[:, -1] < 1
    assert answered.nonzero().flatten().tolist() == [2, 3]
    assert scores[~answered].tolist() == [[0.0] * CLASSES + [1.0]] * 4
    expected = [part[answered] for part in everyone[0]]
    assert_same((boxes[answered], scores[answered]), expected)
    # not fewer than the image has
    assert_same(second, everyone[1])
    # what remains after NMS are targets
    (result, _) = head.predict_bbox(pyramid(2), metas(2), given, head.test_cfg)
    assert 0 < len(result) <= 2 * CLASSES


@pytest.mark.parametrize('counts', [(5, 5), (5, 8), (5, 0), (1, 7)], ids=str)
@pytest.mark.parametrize('num_targets', [None, 3])
def test_images_do_not_influence_each_other(counts, num_targets):
    head = build(num_targets=num_targets)
    feats, turned = pyramid(2), [level.flip(0) for level in pyramid(2)]
    first = random_proposals(counts[0], seed=1)
    (alone,) = raw(head, [level[:1] for level in feats], [first])
    for seed in (2, 3):
        second = random_proposals(counts[1], seed=seed)
        together = raw(head, feats, [first, second])
        assert_same(together[0], alone)
        swapped = raw(head, turned, [second, first])
        for seen, expected in zip(swapped[::-1], together, strict=True):
            assert_same(seen, expected)


@pytest.mark.parametrize('filtered', [False, True])
def test_candidates_read_through_the_mask_unless_filtered(filtered):
    head = build(selector=dict(score_thr=0.5, min_kept=1))
    scores = torch.full((6,), 0.9)
    scores[1] = 0.1 if filtered else 0.9
    expected = logits(head, BOXES, scores=scores)
    boxes = BOXES.clone()
    boxes[1] += 3
    changed = ~close(logits(head, boxes, scores=scores), expected)
    assert changed.tolist() == [not filtered, True] + [False] * 4
    # a mask that is handed in does not open filtered candidates
    mask = iou_attention_mask(BOXES, low=0.1)
    given = logits(head, BOXES, scores=scores, attention_mask=mask)
    assert torch.equal(given, expected)


def test_all_candidates_filtered():
    options = dict(mode='drop', score_thr=2.0, min_kept=1, border_thr=None)
    head = build(selector=options)
    ((_, scores),) = raw(head, pyramid(1), [proposals(BOXES)])
    assert (scores[:, -1] < 1).sum() == 1


def test_given_attention_masks():
    head, feats = build(), pyramid(2)
    given = [proposals(BOXES), random_proposals(7, seed=1)]
    expected = raw(head, feats, given)
    masks = head.attention_masks(given, metas(2))
    assert [len(mask) for mask in masks] == [6, 7]
    assert torch.equal(masks[0], iou_attention_mask(BOXES, low=0.1))
    for proposal, mask in zip(given, masks, strict=True):
        proposal.attention_mask = mask
    for got, want in zip(raw(head, feats, given), expected, strict=True):
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
    # it is really the mask that is used; empty rows keep their diagonal
    given[0].attention_mask = torch.zeros(6, 6, dtype=torch.bool)
    boxes, scores = raw(head, feats, given)[0]
    assert boxes.isfinite().all() and scores.isfinite().all()
    assert close(boxes, expected[0][0]).tolist() == [False] * 4 + [True] * 2
    # and the caller's mask is left as it was
    assert not given[0].attention_mask.any()


def test_without_decoder_the_encoded_targets_are_the_answer():
    head = build(transformer=dict(num_decoder_layers=0), num_targets=3)
    some = logits(head, BOXES, scores=torch.arange(1.0, 0.4, -0.1))
    head.selector.num_targets = None
    full = logits(head, BOXES)
    torch.testing.assert_close(some[:3], full[:3])
    assert not some[3:, CLASSES].any()
    boxes = BOXES.clone()
    boxes[1] += 3  # read by the encoder
    assert not close(logits(head, boxes), full)[0]
    samples = detection_batch([SIZE], 2)['data_samples']
    given = [random_proposals(8, seed=5)]
    assert_trained(head, train(head, pyramid(1), given, samples))
    assert head.transformer.encoder[0].attention.query.weight.grad.any()


@pytest.mark.parametrize(
    ('num_proposals', 'num_gts'),
    [
        ((8, 8), (3, 3)),
        ((8, 5), (3, 0)),
        ((8, 8), (0, 0)),
        ((8, 0), (3, 2)),
        ((8, 0), (3, 0)),
        ((0, 0), (2, 2)),
        ((0, 0), (0, 0)),
        ((1, 1), (0, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize('agnostic', [True, False])
def test_training_edge_cases(num_proposals, num_gts, agnostic):
    head = build(
        transformer=dict(geometry_bias=agnostic),
        bbox_head=dict(reg_class_agnostic=agnostic),
    )
    samples = detection_batch([SIZE] * 2, num_gts)['data_samples']
    given = [random_proposals(n, seed=n + 5) for n in num_proposals]
    feats = [level.requires_grad_() for level in pyramid(2)]
    assert_trained(head, train(head, feats, given, samples))
    assert all(level.grad is not None for level in feats)


@pytest.mark.parametrize('amp', [False, True])
def test_samplers_that_look_at_losses(amp):
    cfg = tiny_fgl_cfg()
    batch = detection_batch()
    for kind in ('OHEMSampler', 'InstanceBalancedPosSampler'):
        cfg.train_cfg.rcnn.sampler.type = f'mmdet.{kind}'
        model = MODELS.build(cfg).train()
        data = model.data_preprocessor(copy.deepcopy(batch), training=True)
        with torch.autocast('cpu', torch.bfloat16, enabled=amp):
            losses = model(**data, mode='loss')
        assert losses['loss_cls'] > 0
        own = ('loss_cls', 'loss_bbox', 'loss_quality')
        assert_trained(model.roi_head, sum(losses[key] for key in own))
    cfg.train_cfg.rcnn.sampler.type = 'mmdet.ScoreHLRSampler'
    with pytest.raises(ValueError, match='take another sampler'):
        MODELS.build(cfg)


def test_a_head_that_is_frozen_trains_what_is_before_it():
    """Losses of a head in evaluation mode are those of all its RoIs."""
    samples = detection_batch([SIZE], 1)['data_samples']
    losses = []
    for mode in (True, False):
        torch.manual_seed(0)
        head = build(num_targets=2).train(mode)
        given = [proposals(BOXES)]
        found = head.loss(pyramid(1), given, copy.deepcopy(samples))
        losses.append({key: value.item() for key, value in found.items()})
    assert losses[0] == pytest.approx(losses[1])


def test_boxes_of_mmdets_types():
    head = build()
    plain, typed = proposals(BOXES), proposals(BOXES)
    typed.bboxes = HorizontalBoxes(typed.bboxes)
    found = [raw(head, pyramid(1), [given])[0][1] for given in (plain, typed)]
    assert torch.equal(*found)


def sampled_contexts(monkeypatch, head, add_gt, scored=True):
    """RoI context and logits in training, all proposals sampled.

    The one true box overlaps the first two.
    """
    (sample,) = detection_batch([SIZE], 1)['data_samples']
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8, 38, 38]]), labels=torch.tensor([1])
    )
    head.bbox_sampler.add_gt_as_proposals = add_gt
    given = proposals(BOXES)
    if not scored:
        del given.scores
    seen, forward = [], head._bbox_forward

    def spy(x, rois, contexts, **kwargs):
        results = forward(x, rois, contexts, **kwargs)
        seen.extend([*contexts, results['cls_score'].detach()])
        return results

    with monkeypatch.context() as patch:
        patch.setattr(head, '_bbox_forward', spy)
        train(head, pyramid(1), [given], [sample])
    return seen


@pytest.mark.parametrize('add_gt', [False, True])
def test_context_of_sampled_rois(monkeypatch, add_gt):
    scores = proposals(BOXES).scores
    objectness = dict(zip(map(tuple, BOXES.tolist()), scores, strict=True))
    head = build()
    context, _ = sampled_contexts(monkeypatch, head, add_gt)
    boxes = [tuple(box) for box in context.boxes.tolist()]
    assert len(boxes) == len(BOXES) + add_gt
    assert context.scores.tolist() == [objectness.get(b, 1) for b in boxes]
    assert context.attendable.tolist() == [b in objectness for b in boxes]
    context, _ = sampled_contexts(monkeypatch, head, add_gt, scored=False)
    assert context.scores is None


def test_added_true_boxes_are_not_read_by_others(monkeypatch):
    head = build()
    context, without = sampled_contexts(monkeypatch, head, False)
    more, added = sampled_contexts(monkeypatch, head, True)
    by_box = dict(zip(map(tuple, more.boxes.tolist()), added, strict=True))
    rows = [by_box[tuple(box)] for box in context.boxes.tolist()]
    assert_same(rows, without)
    # they would be, were they attendable
    leaked = logits(head, more.boxes, training=True, scores=more.scores)
    assert not close(leaked, added).all()


def test_shared_head_is_refused():
    shared = dict(type='mmdet.ResLayer', depth=18)
    with pytest.raises(ValueError, match='leave shared_head out'):
        build(roi_head=dict(shared_head=shared))
