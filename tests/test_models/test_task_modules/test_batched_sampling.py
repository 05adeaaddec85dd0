"""Sampling for all images at once against mmdet's, image by image."""

import pytest
import torch
from mmdet.models.task_modules import (
    MaxIoUAssigner,
    PseudoSampler,
    RandomSampler,
)
from mmengine.structures import InstanceData

from mmfgl.models.task_modules.batched_sampling import (
    Padded,
    can_batch,
    sample_proposals,
)

FIELDS = [
    *('pos_inds', 'neg_inds', 'pos_priors', 'neg_priors', 'priors'),
    *('pos_is_gt', 'pos_assigned_gt_inds', 'pos_gt_labels', 'pos_gt_bboxes'),
    *('num_gts', 'num_pos', 'num_neg'),
]


def images(num_truths, num_proposals):
    """Proposals and true boxes; some proposals lie on the true boxes."""
    draw = torch.Generator().manual_seed(0)

    def boxes(num):
        centres = 100 * torch.rand(num, 2, generator=draw)
        sides = 8 + 50 * torch.rand(num, 2, generator=draw)
        return torch.cat([centres - sides / 2, centres + sides / 2], dim=1)

    truths, proposals = [], []
    for num, others in zip(num_truths, num_proposals, strict=True):
        labels = torch.randint(0, 5, (num,), generator=draw)
        truths.append(InstanceData(bboxes=boxes(num), labels=labels))
        near = truths[-1].bboxes[:others] + 2
        proposals.append(torch.cat([boxes(others - len(near)), near]))
    return proposals, truths


def parts(num=2000, add_gt=True, **options):
    rules = dict(pos_iou_thr=0.5, neg_iou_thr=0.5, match_low_quality=False)
    sampler = RandomSampler(num, 0.25, add_gt_as_proposals=add_gt)
    return MaxIoUAssigner(**{**rules, **options}), sampler


def of_mmdet(assigner, sampler, proposals, truths):
    for boxes, truth in zip(proposals, truths, strict=True):
        priors = InstanceData(priors=boxes)
        assigned = assigner.assign(priors, truth)
        yield sampler.sample(assigned, priors, truth)


@pytest.mark.parametrize('add_gt', [True, False])
@pytest.mark.parametrize(
    ('num_truths', 'num_proposals'),
    [
        ((4, 0, 2), (300, 300, 300)),
        ((3, 3, 3), (200, 0, 50)),
        ((0, 0), (30, 40)),
        ((0, 2), (0, 0)),
        ((1,), (100,)),
    ],
)
def test_equals_mmdets(add_gt, num_truths, num_proposals):
    chosen = parts(add_gt=add_gt)
    given = images(num_truths, num_proposals)
    results = sample_proposals(*chosen, *given)
    expected = list(of_mmdet(*chosen, *given))
    for ours, theirs in zip(results, expected, strict=True):
        for field in FIELDS:
            a, b = getattr(ours, field), getattr(theirs, field)
            assert type(a) is type(b)
            if isinstance(a, torch.Tensor):
                assert a.dtype == b.dtype and torch.equal(a, b), field
            else:
                assert a == b, field


def test_counts_of_what_is_drawn():
    chosen = parts(num=20, pos_iou_thr=0.2, neg_iou_thr=0.2)
    given = images((5, 0, 1), (400, 300, 8))
    results = sample_proposals(*chosen, *given)
    for ours, theirs in zip(results, of_mmdet(*chosen, *given), strict=True):
        assert len(ours.pos_inds) == len(theirs.pos_inds)
        assert len(ours.neg_inds) == len(theirs.neg_inds)
        drawn = torch.cat([ours.pos_inds, ours.neg_inds])
        assert len(drawn.unique()) == len(drawn)
    again = sample_proposals(*chosen, *given)
    assert not torch.equal(results[0].pos_inds, again[0].pos_inds)


@pytest.mark.parametrize(
    'change',
    [
        dict(neg_iou_thr=(0.1, 0.3)),
        dict(ignore_iof_thr=0.5),
        dict(gt_max_assign_all=False),
        dict(gpu_assign_thr=10),
        dict(iou_calculator=dict(type='BboxOverlaps2D', dtype='fp16')),
    ],
    ids=str,
)
def test_what_it_does_not_know(change):
    _, truths = images((2,), (5,))
    assigner, sampler = parts(**change)
    assert not can_batch(assigner, sampler, truths)
    assigner, _ = parts()
    assert can_batch(assigner, sampler, truths)
    assert not can_batch(assigner, PseudoSampler(), truths)


@pytest.mark.parametrize('counts', [(2, 0, 3), (2, 2), (0, 0), (0,)])
def test_padding(counts):
    rows = [torch.randn(count, 4) for count in counts]
    padded = Padded.of(rows)
    assert padded.rows.shape == (len(counts), max(1, *counts), 4)
    assert padded.real.sum(dim=1).tolist() == list(counts)
    assert torch.equal(padded.rows[padded.real], torch.cat(rows))
    assert padded.rows.isfinite().all()
