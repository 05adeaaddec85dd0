import copy
import dataclasses

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmfgl.models.layers.attention_mask import iou_attention_mask
from mmfgl.models.roi_heads import FGLRoIHead, Scene
from mmfgl.registry import MODELS
from mmfgl.testing import (
    detection_batch,
    stir,
    tiny_fgl_cfg,
    tiny_region_encoder_cfg,
)

SIZE = (64, 96)
CLASSES = 3
CERTAIN = [0.0] * CLASSES + [1.0]
# overlapping pairs, one box apart from all, one on the left border
BOXES = torch.tensor(
    [
        [10.0, 10, 40, 40],
        [14, 12, 44, 42],
        [60, 20, 90, 50],
        [58, 24, 86, 54],
        [50, 2, 58, 9],
        [0, 30, 1, 60],
    ]
)


def build(**options):
    cfg = tiny_fgl_cfg(CLASSES, **options)
    roi_head = cfg.roi_head
    roi_head.update(train_cfg=cfg.train_cfg.rcnn, test_cfg=cfg.test_cfg.rcnn)
    return stir(MODELS.build(roi_head)).eval()


def pyramid(num_images, seed=0):
    generator = torch.Generator().manual_seed(seed)
    height, width = SIZE
    return tuple(
        torch.randn(
            num_images, 16, height // s, width // s, generator=generator
        )
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
    meta = dict(img_shape=SIZE, scale_factor=(0.5, 0.5))
    return [dict(meta) for _ in range(num_images)]


@torch.no_grad()
def raw(head, feats, given):
    """One row a proposal: list of (boxes, scores)."""
    results = head.predict_bbox(feats, metas(len(given)), given, None)
    return [(r.bboxes, r.scores) for r in results]


def assert_same(got, want):
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def logits(head, boxes, training=False, **scene):
    """(R, C + 2) logits of the boxes of one image."""
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], dim=1)
    head.train(training)
    with torch.no_grad(), head._seeing([Scene(SIZE, **scene)]):
        return head._bbox_forward(pyramid(1), rois)['cls_score']


def close(one, other):
    return torch.isclose(one, other, atol=1e-5, rtol=1e-4).all(dim=-1)


def test_one_row_a_proposal():
    head = build()
    given = [proposals(BOXES), random_proposals(9, seed=1)]
    for result, proposal in zip(
        raw(head, pyramid(2), given), given, strict=True
    ):
        boxes, scores = result
        assert boxes.shape == (len(proposal), 4)
        assert scores.shape == (len(proposal), CLASSES + 1)
        # nobody is left out
        assert (scores[:, -1] < 1).all()


def test_others_than_targets_are_background():
    given = [proposals(BOXES), random_proposals(2, seed=1)]
    given[0].scores = torch.tensor([0.1, 0.2, 0.8, 0.9, 0.1, 0.1])
    everyone = raw(build(), pyramid(2), given)
    head = build(num_targets=2)
    results = raw(head, pyramid(2), given)
    boxes, scores = results[0]
    answered = scores[:, -1] < 1
    assert answered.nonzero().flatten().tolist() == [2, 3]
    assert scores[~answered].tolist() == [CERTAIN] * 4
    assert_same(
        (boxes[answered], scores[answered]),
        [part[answered] for part in everyone[0]],
    )
    # not fewer than the image has
    assert_same(results[1], everyone[1])
    # what remains after NMS are targets
    (result, _) = head.predict_bbox(pyramid(2), metas(2), given, head.test_cfg)
    assert 0 < len(result) <= 2 * CLASSES


@pytest.mark.parametrize('counts', [(5, 5), (5, 8), (5, 0), (1, 7)], ids=str)
@pytest.mark.parametrize('num_targets', [None, 3])
def test_images_do_not_influence_each_other(counts, num_targets):
    head = build(num_targets=num_targets)
    first = random_proposals(counts[0], seed=1)
    feats = pyramid(2)
    (alone,) = raw(head, [level[:1] for level in feats], [first])
    for seed in (2, 3):
        second = random_proposals(counts[1], seed=seed)
        together = raw(head, feats, [first, second])
        assert_same(together[0], alone)
        swapped = raw(
            head, [level.flip(0) for level in feats], [second, first]
        )
        assert_same(swapped[1], alone)
        assert_same(swapped[0], together[1])
        assert len(together[1][0]) == counts[1]


@pytest.mark.parametrize('cfg', ['nms', None])
@pytest.mark.parametrize('counts', [(0, 0), (0, 4), (4, 0, 2)], ids=str)
def test_images_without_proposals(counts, cfg):
    head = build()
    given = [random_proposals(n, seed=i) for i, n in enumerate(counts)]
    results = head.predict_bbox(
        pyramid(len(counts)),
        metas(len(counts)),
        given,
        head.test_cfg if cfg else None,
    )
    for result, count in zip(results, counts, strict=True):
        if cfg is None:
            assert result.bboxes.shape == (count, 4)
            assert result.scores.shape == (count, CLASSES + 1)
        else:
            assert (len(result) > 0) == (count > 0)
            assert result.labels.shape == result.scores.shape


def test_one_candidate_reads_itself_alone():
    head = build()
    alone = logits(head, BOXES[4:5])
    assert alone.isfinite().all()
    # no overlap with anybody: the others change nothing
    torch.testing.assert_close(logits(head, BOXES)[4:5], alone)


def test_candidates_read_through_the_iou_mask():
    head = build()
    expected = logits(head, BOXES)
    boxes = BOXES.clone()
    boxes[1] += 3
    changed = ~close(logits(head, boxes), expected)
    assert changed.tolist() == [True, True, False, False, False, False]


def test_filtered_candidates_are_not_read():
    options = dict(score_thr=0.5, min_kept=1)
    head = build(selector=options)
    scores = torch.tensor([0.9, 0.1, 0.9, 0.9, 0.9, 0.9])
    expected = logits(head, BOXES, scores=scores)
    boxes = BOXES.clone()
    boxes[1] += 3
    changed = ~close(logits(head, boxes, scores=scores), expected)
    assert changed.tolist() == [False, True, False, False, False, False]


def test_border_candidates_in_both_modes():
    for mode, answered in (('context', True), ('drop', False)):
        head = build(selector=dict(mode=mode, min_kept=1))
        scores = raw(head, pyramid(1), [proposals(BOXES)])[0][1]
        assert (scores[:5, -1] < 1).all()
        assert (scores[5, -1] < 1) == answered
        if not answered:
            assert scores[5].tolist() == CERTAIN


def test_all_candidates_filtered():
    head = build(
        selector=dict(mode='drop', score_thr=2.0, min_kept=1, border_thr=None)
    )
    ((_, scores),) = raw(head, pyramid(1), [proposals(BOXES)])
    assert (scores[:, -1] < 1).sum() == 1


def test_given_attention_masks():
    head = build()
    given = [proposals(BOXES), random_proposals(7, seed=1)]
    expected = raw(head, pyramid(2), given)
    masks = head.attention_masks(given, metas(2))
    assert [len(mask) for mask in masks] == [6, 7]
    assert torch.equal(masks[0], iou_attention_mask(BOXES, low=0.1))
    for proposal, mask in zip(given, masks, strict=True):
        proposal.attention_mask = mask
    for got, want in zip(raw(head, pyramid(2), given), expected, strict=True):
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])
    # it is really the mask that is used; empty rows keep their diagonal
    given[0].attention_mask = torch.zeros(6, 6, dtype=torch.bool)
    boxes, scores = raw(head, pyramid(2), given)[0]
    assert boxes.isfinite().all() and scores.isfinite().all()
    same = [False] * 4 + [True] * 2
    assert close(boxes, expected[0][0]).tolist() == same
    # logits, since the softmax of such random weights is all but one-hot
    got = logits(head, BOXES, attention_mask=given[0].attention_mask.clone())
    assert close(got, logits(head, BOXES)).tolist() == same
    # and the caller's mask is left as it was
    assert not given[0].attention_mask.any()


def test_given_mask_does_not_open_filtered_candidates():
    options = dict(score_thr=0.5, min_kept=1)
    head = build(selector=options)
    scores = torch.tensor([0.9, 0.1, 0.9, 0.9, 0.9, 0.9])
    mask = iou_attention_mask(BOXES, low=0.1)
    assert torch.equal(
        logits(head, BOXES, scores=scores, attention_mask=mask),
        logits(head, BOXES, scores=scores),
    )


def test_tensor_mode():
    head = build()
    given = [proposals(BOXES), random_proposals(0, seed=1)]
    cls_score, bbox_pred = head.forward(pyramid(2), given)
    assert cls_score.shape == (6, CLASSES + 2)
    assert bbox_pred.shape == (6, 4)


def test_region_encoder_without_box_head():
    head = MODELS.build(tiny_region_encoder_cfg())
    assert not head.with_bbox
    rois = torch.cat([torch.zeros(6, 1), BOXES], dim=1)
    tokens = head.region_tokens(pyramid(1), rois)
    assert tokens.shape == (6, 16)
    assert set(head.state_dict()) <= set(build().state_dict())


def test_scenes_are_forgotten_after_an_error():
    head = build()
    with pytest.raises(ZeroDivisionError), head._seeing([Scene(SIZE)]):
        raise ZeroDivisionError
    assert head._scenes is None


def train(head, feats, given, samples):
    head.train()
    torch.manual_seed(0)
    return head.loss(feats, copy.deepcopy(given), copy.deepcopy(samples))


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
    head = build(bbox_head=dict(reg_class_agnostic=agnostic))
    samples = detection_batch([SIZE] * 2, num_gts)['data_samples']
    given = [
        random_proposals(n, seed=i + 5) for i, n in enumerate(num_proposals)
    ]
    feats = [level.requires_grad_() for level in pyramid(2)]
    losses = train(head, feats, given, samples)
    total = sum(value for key, value in losses.items() if 'loss' in key)
    assert total.isfinite()
    total.backward()
    for name, param in head.named_parameters():
        assert param.grad is not None, name
        assert param.grad.isfinite().all(), name
    assert all(level.grad is not None for level in feats)


def sampled_logits(head, add_gt):
    """Training logits by box, without and with the true boxes added.

    All proposals are sampled; the true box overlaps the first two.
    """
    (sample,) = detection_batch([SIZE], 1)['data_samples']
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8, 38, 38]]), labels=torch.tensor([1])
    )
    head.bbox_sampler.add_gt_as_proposals = add_gt
    seen = {}
    forward = head._bbox_forward

    def spy(x, rois):
        results = forward(x, rois)
        for roi, row in zip(rois, results['cls_score'], strict=True):
            seen[tuple(roi[1:].tolist())] = row.detach()
        return results

    head._bbox_forward = spy
    train(head, pyramid(1), [proposals(BOXES)], [sample])
    del head._bbox_forward
    return seen


def test_added_true_boxes_are_not_read_by_others(monkeypatch):
    head = build()
    without, added = sampled_logits(head, False), sampled_logits(head, True)
    assert len(without) == len(BOXES) and len(added) == len(BOXES) + 1
    for box, row in without.items():
        torch.testing.assert_close(added[box], row, atol=1e-5, rtol=1e-4)
    # they would be, were they readable
    sample = Scene.sample
    monkeypatch.setattr(
        Scene,
        'sample',
        lambda *args: dataclasses.replace(sample(*args), readable=None),
    )
    leaked = sampled_logits(head, True)
    first = tuple(BOXES[0].tolist())
    assert not close(leaked[first], without[first])


def test_training_and_test_see_the_same():
    head = build()
    expected = logits(head, BOXES)
    torch.testing.assert_close(logits(head, BOXES, training=True), expected)


def test_selector_defaults_and_unknown_attention_settings():
    cfg = tiny_region_encoder_cfg()
    assert MODELS.build(cfg).selector.mode == 'context'
    cfg['attention'] = dict(low=0.7, high=0.2)
    head = MODELS.build(cfg)
    assert isinstance(head, FGLRoIHead)
    with pytest.raises(ValueError, match='0 <= low <= high <= 1'):
        head.attention_masks([proposals(BOXES)], metas(1))


def test_config_is_not_changed():
    cfg = tiny_region_encoder_cfg()
    before = ConfigDict(copy.deepcopy(cfg))
    MODELS.build(cfg)
    assert before == cfg


def test_candidates_of_equal_counts_go_through_together(monkeypatch):
    head = build()
    given = [random_proposals(n, seed=n) for n in (5, 8, 5)]
    shapes, encode = [], head.transformer.encode

    def spy(tokens, mask, boxes):
        shapes.append(tuple(tokens.shape[:2]))
        return encode(tokens, mask, boxes)

    monkeypatch.setattr(head.transformer, 'encode', spy)
    results = raw(head, pyramid(3), given)
    assert sorted(shapes) == [(1, 8), (2, 5)]
    monkeypatch.undo()
    for i, proposal in enumerate(given):
        feats = [level[i : i + 1] for level in pyramid(3)]
        assert_same(results[i], raw(head, feats, [proposal])[0])


@pytest.mark.parametrize('num_targets', [None, 2])
def test_scene_token_is_read_by_all_and_nothing_else(num_targets):
    head = build(num_targets=num_targets)
    head.scene_token = True
    given = [proposals(BOXES), random_proposals(0, seed=1)]
    expected = raw(head, pyramid(2), given)[0]
    assert expected[0].shape == (6, 4)
    # box 4 overlaps nobody, yet sees what changes outside of it
    feats = [level.clone() for level in pyramid(2)]
    for level in feats:
        level[0, ..., : level.shape[-1] // 3] += 5
    head.selector.num_targets = None
    full = raw(head, pyramid(2), given)[0][1][4]
    assert not close(raw(head, feats, given)[0][1][4], full)
    head.scene_token = False
    blind = raw(head, pyramid(2), given)[0][1][4]
    assert close(raw(head, feats, given)[0][1][4], blind)


def test_training_context_is_read_and_not_answered():
    head = build()
    samples = detection_batch([SIZE], 2)['data_samples']
    given = [random_proposals(40, seed=5)]
    sizes, seen = [], {}
    encode = head.transformer.encode

    def spy(tokens, mask, boxes):
        sizes.append(tokens.shape[1])
        seen['boxes'] = boxes[0]
        return encode(tokens, mask, boxes)

    head.transformer.encode = spy
    losses = {}
    for context in (0, 7, 99):
        head.train_context = context
        losses[context] = train(head, pyramid(1), given, samples)
    # the sampler takes 16, of which true boxes may be some
    num = sizes[0]
    assert sizes[1] == num + 7
    assert 38 <= sizes[2] <= 42
    # no candidate twice
    assert len(seen['boxes'].unique(dim=0)) == len(seen['boxes'])
    assert losses[0]['loss_cls'] != losses[7]['loss_cls']


@pytest.mark.parametrize(
    ('num_proposals', 'num_gts'), [((30, 0), (3, 2)), ((0, 0), (2, 0))]
)
@pytest.mark.parametrize('bias', [True, False])
def test_all_options_train_every_parameter(num_proposals, num_gts, bias):
    transformer = dict(
        type='mmfgl.RegionTransformer',
        embed_dims=16,
        num_heads=2,
        geometry_bias=bias,
    )
    cfg = tiny_fgl_cfg(CLASSES)
    cfg.roi_head.update(
        train_cfg=cfg.train_cfg.rcnn,
        test_cfg=cfg.test_cfg.rcnn,
        transformer=transformer,
        train_context=8,
        scene_token=True,
    )
    cfg.roi_head.bbox_roi_extractor.context_scales = (1.5,)
    cfg.roi_head.tokenizer.in_channels = 32
    head = stir(MODELS.build(cfg.roi_head))
    samples = detection_batch([SIZE] * 2, num_gts)['data_samples']
    given = [
        random_proposals(n, seed=i + 5) for i, n in enumerate(num_proposals)
    ]
    losses = train(head, pyramid(2), given, samples)
    total = sum(value for key, value in losses.items() if 'loss' in key)
    total.backward()
    for name, param in head.named_parameters():
        assert param.grad is not None, name
        assert param.grad.isfinite().all(), name


@pytest.mark.parametrize('autocast', [False, True])
def test_extreme_boxes(autocast):
    head = build()
    boxes = torch.tensor(
        [
            [10.0, 10, 10, 10],  # no area
            [20, 5, 60, 5],
            [-1e6, -1e6, 1e6, 1e6],  # far out of the image
            [5e5, 5e5, 6e5, 6e5],
            [0, 0, 96, 64],
        ]
    )
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        ((found, scores),) = raw(head, pyramid(1), [proposals(boxes)])
        (result,) = head.predict_bbox(
            pyramid(1), metas(1), [proposals(boxes)], head.test_cfg
        )
    assert found.isfinite().all() and scores.isfinite().all()
    assert result.bboxes.isfinite().all()
    samples = detection_batch([SIZE], 1)['data_samples']
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        losses = train(head, pyramid(1), [proposals(boxes)], samples)
    assert all(value.isfinite().all() for value in losses.values())


def test_four_thousand_proposals():
    head = build(num_targets=300)
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(4000, 4, generator=generator) * 40
    boxes[:, 2:] += boxes[:, :2]
    ((found, scores),) = raw(head, pyramid(1), [proposals(boxes)])
    assert found.shape == (4000, 4)
    # a stirred head may be as certain of a target
    assert 280 <= (scores[:, -1] < 1).sum() <= 300


def test_shared_head_is_refused():
    with pytest.raises(ValueError, match='leave shared_head out'):
        MODELS.build(
            tiny_region_encoder_cfg(
                shared_head=dict(type='mmdet.ResLayer', depth=18)
            )
        )
