"""The batched RPN against mmdet's, which goes image by image."""

import pytest
import torch

from mmfgl.models.task_modules import batched_sampling
from tests.test_models.test_dense_heads.rpn_pair import (
    CELLS,
    NUM_ANCHORS,
    assert_same_proposals,
    assert_same_targets,
    maps,
    metas,
    pair,
    targets,
    truths,
)


@pytest.mark.parametrize('max_pairs', [2**22, 4000])  # at once, in parts
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(border=0),
        dict(assigner=dict(match_low_quality=False)),
        dict(assigner=dict(min_pos_iou=0.0)),
        dict(sampler=dict(neg_pos_ub=NUM_ANCHORS)),
    ],
    ids=str,
)
def test_targets_are_mmdets(no_loop, monkeypatch, options, max_pairs):
    """Where nothing has to be drawn at random."""
    limits = dict(cpu=max_pairs)
    monkeypatch.setattr(batched_sampling, 'MAX_PAIRS', limits)
    plain, batched = pair(**options)
    batches = [
        truths(*counts, seed=seed)
        for counts in [(5, 0, 2, 9), (0, 0), (3,), (1, 1)]
        for seed in range(2)
    ]
    expected = [targets(plain, batch) for batch in batches]
    assert any((weights > 0).any() for weights in expected[0][3])
    no_loop()
    for batch, ours in zip(batches, expected, strict=True):
        assert_same_targets(targets(batched, batch), ours)


@pytest.mark.parametrize(
    'sampler',
    [
        dict(num=40, pos_fraction=0.1),
        dict(num=24, pos_fraction=0.25, neg_pos_ub=2),
        dict(num=40, pos_fraction=0.5, neg_pos_ub=3),
    ],
    ids=str,
)
def test_counts_of_what_is_drawn(no_loop, sampler):
    assigner = dict(pos_iou_thr=0.3, neg_iou_thr=0.3)
    plain, batched = pair(assigner, sampler)
    everything = pair(assigner)[0]
    batch = truths(9, 0, 1)
    *expected, expected_num = targets(plain, batch)
    *pool, _ = targets(everything, batch)
    no_loop()
    *first, num = targets(batched, batch)
    *second, _ = targets(batched, batch)
    assert num == expected_num

    def counts(levels):
        labels, weights = (torch.cat(part, dim=1) for part in levels[:2])
        return [
            ((labels == label) & (weights > 0)).sum(dim=1).tolist()
            for label in (0, 1)
        ]

    assert counts(first) == counts(expected) != counts(pool)
    labels, weights, boxes, box_weights = (
        [torch.cat(part, dim=1) for part in levels]
        for levels in (zip(first, pool, strict=True))
    )
    assert torch.equal(*(b * box_weights[0] for b in boxes))
    assert ((weights[0] == 0) | (labels[0] == labels[1])).all()
    assert not torch.equal(torch.cat(first[1], 1), torch.cat(second[1], 1))


@pytest.mark.parametrize(
    'options',
    [
        dict(assigner=dict(gt_max_assign_all=False)),
        dict(assigner=dict(neg_iou_thr=(0.1, 0.3))),
        dict(sampler=dict(type='PseudoSampler')),
        dict(coder=dict(use_box_type=True)),
    ],
    ids=str,
)
def test_other_parts_go_the_parents_way(options):
    plain, batched = pair(**options)
    batch = truths(4, 2)
    assert_same_targets(targets(batched, batch), targets(plain, batch))


def test_images_of_two_sizes_go_the_parents_way():
    plain, batched = pair(border=0)
    batch, infos = truths(4, 2), metas(1) + metas(1, (48, 100))
    infos[1]['pad_shape'] = (48, 112)
    ours, theirs = (targets(h, batch, infos) for h in (batched, plain))
    assert_same_targets(ours, theirs)
    ours, theirs = (
        head.predict_by_feat(*maps(2), batch_img_metas=infos)
        for head in (batched, plain)
    )
    assert_same_proposals(ours, theirs)


def test_no_anchor_inside_is_told():
    _, batched = pair(border=0)
    with pytest.raises(ValueError, match='no valid anchor inside'):
        targets(batched, truths(2, 0), metas(2, (2, 2)))


def test_same_weights_same_losses():
    plain, batched = pair()
    batched.load_state_dict(plain.state_dict())
    feats = [torch.randn(3, 8, *cells) for cells in CELLS]
    batch = truths(3, 0, 5)
    ours, theirs = (
        head.loss_by_feat(*head(feats), batch, metas(3))
        for head in (batched, plain)
    )
    for name in ('loss_rpn_cls', 'loss_rpn_bbox'):
        assert all(map(torch.equal, ours[name], theirs[name]))
